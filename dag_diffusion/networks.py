"""Networks that learn from a distilled set, built from a name such as ``convnet-3`` or ``convnet-3-w64``.

    convnet-DEPTH = DEPTH x [3x3 convolution, instance norm, ReLU, 2x2 average pool], flatten, linear

The field's default is depth 3 for 32 pixels, 5 or 6 for 128 to 224.  Weights start as PyTorch starts them.
"""

import re

import torch
from torch import nn

DEFAULT_WIDTH = 128
_NAME = re.compile(r"(?P<family>[a-z]+)-(?P<depth>[1-9]\d*)(-w(?P<width>[1-9]\d*))?")


def build_network(name: str, *, channels: int, size: tuple[int, int], num_classes: int) -> nn.Module:
    """A fresh network that maps ``(batch, channels, *size)`` to logits ``(batch, num_classes)``.

    Args:
        name: ``FAMILY-DEPTH`` or ``FAMILY-DEPTH-wWIDTH``, a family of ``FAMILIES``; the width is 128 unless given.
        size: (height, width).  Images of 28 pixels are padded to 32 beforehand, as the field does.

    Raises:
        ValueError: the name has another form, or the images are too small for that depth.
    """
    match = _NAME.fullmatch(name)
    build, depths = FAMILIES.get(match["family"], (None, ())) if match else (None, ())
    if build is None or int(match["depth"]) not in depths:
        raise ValueError(f"there is no network {name!r}; use {_allowed_names()}, followed by -w64 for a width of 64")
    width = int(match["width"] or DEFAULT_WIDTH)
    return build(int(match["depth"]), width, channels=channels, size=size, num_classes=num_classes)


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


def _block(channels: int, width: int) -> nn.Sequential:
    norm = nn.GroupNorm(width, width)  # one channel a group is instance norm, without statistics that tests depend on
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2))


def _allowed_names() -> str:
    return " or ".join(f"{family}-{depths[0]} to {family}-{depths[-1]}" for family, (_, depths) in FAMILIES.items())


FAMILIES = {"convnet": (convnet, range(1, 7))}  # how to build one, and the depths it may have
