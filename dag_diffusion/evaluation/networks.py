"""Networks that learn from a distilled set, built from a name such as ``convnet-3``, ``resnet-ap-10`` or ``timm/NAME``.

    convnet-DEPTH = DEPTH x [3x3 convolution, instance norm, ReLU, 2x2 average pool], flatten, linear
    resnet-DEPTH = stem -> 4 stages of residual blocks, 64 to 512 wide, the last 3 at half the size -> average -> linear

The field's default is convnet-3 for 32 pixels; convnet-5 or -6, resnet-ap-10 and resnet-18 for 128 to 224.  Residual
networks are torchvision's with a stem for each size.  Every norm is instance norm (group norm of one channel each), so
that a batch of ten images trains as well as one of a hundred.  The ``ap`` variant never strides: it convolves at full
size and averages 2x2 (4x4 in the stem), as evaluations of dataset distillation have done since IDC (Kim et al., 2022).
All start from scratch, also those of timm, never from trained weights.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from dag_diffusion.seeding import seeded

DEFAULT_WIDTH = 128  # of a convnet
CONVNETS, RESNETS, AVERAGED = range(1, 7), (10, 18, 34, 50), (10, 18)  # depths
BLOCKS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}  # of each stage of a resnet
WIDEST = 64  # pixels at which the product is still 1.3 times as fast as torch's pooling in float32; level at 128
SMALLEST = 16  # pixels; the last stage would see one pixel of less, which instance norm turns into zero
_NAME = re.compile(r"(?P<family>convnet|resnet|resnet-?ap)-(?P<depth>[1-9]\d*)(-w(?P<width>[1-9]\d*))?")
_TIMM = "timm/"


def list_networks() -> list[str]:
    """Names that ``build_network`` takes, without widths and without those of timm (``timm.list_models()``)."""
    depths = {"convnet": CONVNETS, "resnet": RESNETS, "resnet-ap": AVERAGED}
    return [f"{family}-{depth}" for family, own in depths.items() for depth in own]


def build_network(name: str, *, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """A fresh network that maps ``(batch, channels, *size)`` to logits ``(batch, num_classes)``.

    Args:
        name: ``convnet-DEPTH`` (1 to 6) or ``convnet-DEPTH-wWIDTH``, 128 wide unless said; ``resnet-DEPTH`` (10, 18,
            34, 50); ``resnet-ap-DEPTH`` (10, 18; also written ``resnetap-DEPTH``); or ``timm/NAME``, such as
            ``timm/vit_tiny_patch16_224``.
        size: (height, width).

    Raises:
        ValueError: there is no network of that name, or it cannot see images of that size.
    """
    return _builder(name)(channels=channels, size=size, num_classes=num_classes)


def seeded_network(name: str, *, seed: int, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """The network whose initial weights follow from ``seed`` alone; the global random state is left as it was.

    Raises:
        ValueError: see ``build_network``.
    """
    with seeded(seed):
        return build_network(name, channels=channels, size=size, num_classes=num_classes)


def require_trainable(
    name: str, images: Iterable[int], batch_size: int, *, channels: int, size: tuple[int, int], num_classes: int
) -> None:
    """Refuse what would fail in the middle of a training: a network as of ``build_network``, or a batch of one image.

    Args:
        images: numbers of images of the sets that it will learn from.

    Raises:
        ValueError: see ``build_network``; or so many images leave one for the last batch, which norms over a batch, as
            most of timm's networks have, cannot learn from where an image is one value a channel.
    """
    network = seeded_network(name, seed=0, channels=channels, size=size, num_classes=num_classes)
    alone = next((number for number in images if (number % batch_size or batch_size) == 1), None)
    if alone is None:
        return
    try:
        with seeded(0), torch.no_grad():
            network.train()(torch.zeros(1, channels, *size))
    except ValueError as error:  # torch's for a norm of one value
        raise ValueError(
            f"{name} cannot learn from a batch of one image, which {alone} images leave of batches of {batch_size}; "
            "choose a network without batch norm, another protocol, or a set of another size"
        ) from error


def convnet(depth: int, width: int, *, channels: int, size: tuple[int, int], num_classes: int) -> nn.Sequential:
    """The ConvNet of dataset condensation: ``depth`` halvings of the image at constant ``width``.

    Raises:
        ValueError: nothing would be left of the image after so many halvings.
    """
    height, breadth = (side >> depth for side in size)
    if min(height, breadth) < 1:
        raise ValueError(
            f"a convnet of depth {depth} needs images of {2**depth} pixels a side, but got {size[0]}x{size[1]}; "
            "enlarge them or use a smaller depth"
        )
    blocks = [_block(width if index else channels, width) for index in range(depth)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(width * height * breadth, num_classes))


def resnet(depth: int, *, channels: int, size: tuple[int, int], num_classes: int, pooled: bool = False) -> nn.Module:
    """A residual network of ``depth`` layers, a key of ``BLOCKS``; its convolutions start as He et al. (fan out) do.

    Args:
        size: (height, width).  The shorter side rules the stem: a 3x3 convolution to 64 pixels, then a halving to 128,
            and beyond that a 7x7 convolution and a quartering.
        pooled: average pooling instead of strides.

    Raises:
        ValueError: the images are smaller than ``SMALLEST``.
    """
    if min(size) < SMALLEST:
        raise ValueError(
            f"a resnet needs images of {SMALLEST} pixels a side or more, but got {size[0]}x{size[1]}; "
            "enlarge them or use a convnet"
        )
    block = Bottleneck if depth >= 50 else BasicBlock
    network = ResNet(block, BLOCKS[depth], num_classes, norm_layer=_instance_norm)
    network.conv1, network.maxpool = _stem(channels, min(size), pooled)
    if pooled:
        for stage in (network.layer2, network.layer3, network.layer4):
            _pool_instead_of_stride(stage[0])
    return network


def timm_network(name: str, *, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """The network that timm has under ``name``, untrained, and built for this size of images where it has to be.

    Raises:
        ValueError: timm has none of that name, or it cannot see images of that size or number of channels.
    """
    import timm  # a second that the other networks need not wait for

    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        raise ValueError(
            f"timm has no network {name!r}; the nearest names are {', '.join(nearest) or 'none'}, and "
            "timm.list_models() gives all"
        )
    config = timm.get_pretrained_cfg(name)
    fixed = {"img_size": size} if config is not None and config.fixed_input_size else {}
    try:
        network = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=num_classes, **fixed)
        _require_logits(network, (2, channels, *size), num_classes)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).strip().split("\n")[0][:60] or type(error).__name__
        raise ValueError(
            f"{name} of timm cannot see {channels}x{size[0]}x{size[1]} images ({reason}); use larger ones, or a convnet"
        ) from error
    return network.train()


@torch.no_grad()
def _require_logits(network: nn.Module, shape: tuple[int, ...], num_classes: int) -> None:
    """Many networks find out only when they run that nothing is left of a small image."""
    logits = network.eval()(torch.zeros(shape))
    if logits.shape != (shape[0], num_classes):
        raise ValueError(f"its output is {tuple(logits.shape)}")


def _builder(name: str) -> Callable[..., nn.Module]:
    if name.startswith(_TIMM):
        return partial(timm_network, name.removeprefix(_TIMM))
    match = _NAME.fullmatch(name)
    family, depth, width = (match["family"], int(match["depth"]), match["width"]) if match else ("", 0, None)
    if family == "convnet" and depth in CONVNETS:
        return partial(convnet, depth, int(width or DEFAULT_WIDTH))
    pooled = family != "resnet"
    if family.startswith("resnet") and depth in (AVERAGED if pooled else RESNETS) and not width:
        return partial(resnet, depth, pooled=pooled)
    raise ValueError(
        f"there is no network {name!r}; use convnet-1 to convnet-6 (-w64 for a width of 64), "
        f"resnet-{'/'.join(map(str, RESNETS))}, resnet-ap-{'/'.join(map(str, AVERAGED))}, or timm/NAME"
    )


class AveragePool(nn.Module):
    """Means of squares of ``side`` x ``side`` pixels, as one product: ``side`` rows times a constant matrix.

    On a CPU torch's own takes up to eight times as long at 32 pixels, a third of a ConvNet's training in bfloat16
    (``benchmarks/profiles.py training``).  The product's work grows with the width, so that wide images in float32 are
    left to torch.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, channels, height, width)`` to ``(batch, channels, height // side, width // side)``."""
        batch, channels, height, width = images.shape
        slow = images.dtype == torch.float32 and width > WIDEST
        if images.device.type != "cpu" or slow or height % self.side or width % self.side:
            return F.avg_pool2d(images, self.side)
        rows = images.reshape(batch, channels, height // self.side, self.side * width)
        columns = torch.eye(width // self.side, dtype=images.dtype).repeat_interleave(self.side, 0)
        with torch.autocast("cpu", enabled=False):  # in what the images are in, as torch's own
            return rows @ (columns / self.side**2).repeat(self.side, 1)

    def extra_repr(self) -> str:
        """The side, as torch prints it of its own."""
        return str(self.side)


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), _instance_norm(width), nn.ReLU(), AveragePool(2))


def _instance_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels, channels)  # one channel a group: no statistics that tests could depend on


def _stem(channels: int, side: int, pooled: bool) -> tuple[nn.Conv2d, nn.Module]:
    """First convolution and what follows it after norm and ReLU."""
    kernel = 7 if side > 128 else 3
    stride = 2 if side > 128 and not pooled else 1
    convolution = nn.Conv2d(channels, 64, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if side <= 64:
        return convolution, nn.Identity()
    return convolution, AveragePool(4 if side > 128 else 2) if pooled else nn.MaxPool2d(3, stride=2, padding=1)


def _pool_instead_of_stride(block: BasicBlock | Bottleneck) -> None:
    """Average 2x2 after the norm and ReLU of the strided convolution, and right after that of the shortcut."""
    strided, after = ("conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")
    getattr(block, strided).stride = (1, 1)
    setattr(block, after, nn.Sequential(AveragePool(2), getattr(block, after)))
    convolution, norm = block.downsample
    convolution.stride = (1, 1)
    block.downsample = nn.Sequential(convolution, AveragePool(2), norm)
