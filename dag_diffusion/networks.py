"""Networks that learn from a distilled set, built from a name such as ``convnet-3``, ``resnet-ap-10`` or ``timm/NAME``.

    convnet-DEPTH = DEPTH x [3x3 convolution, instance norm, ReLU, 2x2 average pool], flatten, linear

The field's default is convnet-3 for 32 pixels; convnet-5 or -6, resnet-ap-10 and resnet-18 for 128 to 224.  Convnets
start as PyTorch starts them.  A network of timm, of any kind, starts from scratch too, never from trained weights.
"""

import difflib
import re
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

DEFAULT_WIDTH = 128
CONVNETS, RESNETS, AVERAGED = range(1, 7), (10, 18, 34, 50), (10, 18)  # depths
_NAME = re.compile(r"(?P<family>convnet|resnet|resnet-?ap)-(?P<depth>[1-9]\d*)(-w(?P<width>[1-9]\d*))?")
_TIMM = "timm/"


def build_network(name: str, *, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """A fresh network that maps ``(batch, channels, *size)`` to logits ``(batch, num_classes)``.

    Args:
        name: ``convnet-DEPTH`` (1 to 6) or ``convnet-DEPTH-wWIDTH``, 128 wide unless said; ``resnet-DEPTH`` (10, 18,
            34, 50); ``resnet-ap-DEPTH`` (10, 18; also written ``resnetap-DEPTH``); or ``timm/NAME``, such as
            ``timm/vit_tiny_patch16_224``.
        size: (height, width).  Images of 28 pixels are padded to 32 beforehand, as the field does.

    Raises:
        ValueError: there is no network of that name, or it cannot see images of that size.
    """
    return _builder(name)(channels=channels, size=size, num_classes=num_classes)


def seeded_network(name: str, *, seed: int, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """The network whose initial weights follow from ``seed`` alone; the global random state is left as it was.

    Raises:
        ValueError: see ``build_network``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed accelerators too, and for good
        return build_network(name, channels=channels, size=size, num_classes=num_classes)


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


def timm_network(name: str, *, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """The network that timm has under ``name``, untrained, told the size of the images if it is built for one.

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
        from .resnets import resnet  # torchvision's models, which convnets need not wait for

        return partial(resnet, depth, pooled=pooled)
    raise ValueError(
        f"there is no network {name!r}; use convnet-1 to convnet-6 (-w64 for a width of 64), "
        f"{_listed('resnet', RESNETS)}, {_listed('resnet-ap', AVERAGED)}, or timm/NAME"
    )


def _block(channels: int, width: int) -> nn.Sequential:
    norm = nn.GroupNorm(width, width)  # one channel a group is instance norm, without statistics that tests depend on
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2))


def _listed(family: str, depths: tuple[int, ...]) -> str:
    return f"{family}-" + "/".join(map(str, depths))
