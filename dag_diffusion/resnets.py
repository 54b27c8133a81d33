"""The residual networks of the field's evaluations: torchvision's, without batch statistics, with a stem for each size.

    stem -> 4 stages of residual blocks, 64 to 512 wide, the last 3 at half the size -> global average -> linear

Every norm is instance norm (a group norm of one channel a group), so that a batch of ten images trains as well as one
of a hundred.  The ``ap`` variant never strides: it convolves at full size and averages 2x2 (4x4 in the stem), as
evaluations of dataset distillation have done since IDC (Kim et al., 2022).
"""

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

DEPTHS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}  # blocks a stage
SMALLEST = 16  # pixels; the last stage would see one pixel of less, which instance norm turns into zero


def resnet(depth: int, *, channels: int, size: tuple[int, int], num_classes: int, pooled: bool = False) -> nn.Module:
    """A residual network of ``depth`` layers, a key of ``DEPTHS``; its convolutions start as He et al. (fan out) do.

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
    network = ResNet(block, DEPTHS[depth], num_classes, norm_layer=_instance_norm)
    network.conv1, network.maxpool = _stem(channels, min(size), pooled)
    if pooled:
        for stage in (network.layer2, network.layer3, network.layer4):
            _pool_instead_of_stride(stage[0])
    return network


def _instance_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels, channels)


def _stem(channels: int, side: int, pooled: bool) -> tuple[nn.Conv2d, nn.Module]:
    """First convolution and what follows it after norm and ReLU."""
    kernel = 7 if side > 128 else 3
    stride = 2 if side > 128 and not pooled else 1
    convolution = nn.Conv2d(channels, 64, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if side <= 64:
        return convolution, nn.Identity()
    return convolution, nn.AvgPool2d(4 if side > 128 else 2) if pooled else nn.MaxPool2d(3, stride=2, padding=1)


def _pool_instead_of_stride(block: BasicBlock | Bottleneck) -> None:
    """Average 2x2 after the norm and ReLU of the strided convolution, and right after that of the shortcut."""
    strided, after = ("conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")
    getattr(block, strided).stride = (1, 1)
    setattr(block, after, nn.Sequential(nn.AvgPool2d(2), getattr(block, after)))
    convolution, norm = block.downsample
    convolution.stride = (1, 1)
    block.downsample = nn.Sequential(convolution, nn.AvgPool2d(2), norm)
