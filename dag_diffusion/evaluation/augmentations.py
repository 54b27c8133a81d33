"""Random changes of images in memory, a batch at a time and on its device: shift, crop, flip, colours, CutMix.

    crop_i = resize(window_i),   colours_i = M_i x + b_i,   CutMix = x outside a box, x of another image inside it

Draws come from a generator on the CPU and depend on the batch's shape alone, never on pixels, so that two sets of
equal size are changed alike.  Every function takes ``(batch, channels, height, width)`` and returns the same shape.  It
may be given batches of several networks in a row, all of one size, with one generator each for their draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .protocols import Protocol

GREY = (0.299, 0.587, 0.114)  # luminance of red, green, blue
# standard deviations and directions of the colours of ImageNet's pixels (Krizhevsky et al., 2012)
COLOUR_SCALES = (0.2175, 0.0188, 0.0045)
COLOUR_DIRECTIONS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
ASPECT = 4 / 3  # of a crop, at most, either way: that of Inception's training, as in torchvision
TRIES = 10  # crops drawn for each image, of which the first that fits is taken
Generators = Generator | Sequence[Generator]  # that of all images, or one for each equal part of them


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / std`` of pixels in [0, 1]; one value each, or one a channel.  The default maps them to [-1, 1]."""

    mean: float | Sequence[float] = 0.5
    std: float | Sequence[float] = 0.5


def drawn(draw: Callable[[int, Generator], Tensor], images: int, generators: Generators, dim: int = 0) -> Tensor:
    """What each generator draws for its part of so many images, joined along ``dim``."""
    each = [generators] if isinstance(generators, Generator) else generators
    return torch.cat([draw(images // len(each), generator) for generator in each], dim)


def augmented(images: Tensor, protocol: Protocol, generator: Generators, normalisation: Normalisation) -> Tensor:
    """All changes of single images, in the field's order: where first, then colours."""
    images = cropped(shifted(images, protocol.max_shift, generator), protocol.crop_scale, generator)
    images = flipped(images, generator) if protocol.flip else images
    return recoloured(images, protocol.color_jitter, protocol.lighting, generator, normalisation=normalisation)


def shifted(images: Tensor, max_shift: int, generator: Generators) -> Tensor:
    """Move each image by its own whole number of pixels, up to ``max_shift`` each way; the border is repeated."""
    if max_shift == 0:
        return images
    batch, channels, height, width = images.shape
    device = images.device
    # a gather by one index a dimension, since a slice among them would give channels-last strides, slower on CPUs
    padded = F.pad(images, [max_shift] * 4, mode="replicate")
    steps = drawn(lambda n, g: torch.randint(2 * max_shift + 1, (2, n, 1, 1, 1), generator=g), batch, generator, 1)
    down, right = steps.to(device)
    image = torch.arange(batch, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(-1, 1, 1)
    row, column = torch.arange(height, device=device).view(-1, 1), torch.arange(width, device=device)
    return padded[image, channel, row + down, column + right]


def cropped(images: Tensor, smallest: float | None, generator: Generators) -> Tensor:
    """Resize a random window of each image to the whole, bilinearly.

    Args:
        smallest: least area of the window as a fraction of the image, in (0, 1]; None crops nothing.
    """
    if smallest is None:
        return images
    size = images.shape[2:]
    windows = crop_windows(len(images), (size[0], size[1]), smallest, generator)
    top, left, height, width = windows.unbind(1)
    zero = torch.zeros_like(top)
    # from the output's coordinates in [-1, 1] to those of the input
    across = torch.stack([width / size[1], zero, (2 * left + width) / size[1] - 1], 1)
    down = torch.stack([zero, height / size[0], (2 * top + height) / size[0] - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def crop_windows(count: int, size: tuple[int, int], smallest: float, generator: Generators) -> Tensor:
    """Windows of uniform area in [smallest, 1] and log-uniform aspect, as torchvision's RandomResizedCrop draws them.

    Returns:
        ``(count, 4)`` whole numbers in float32: top, left, height, width; the whole image where no try fitted.
    """
    areas, ratios = drawn(lambda n, g: torch.rand(2, n, TRIES, generator=g), count, generator, 1)
    areas = (smallest + (1 - smallest) * areas) * size[0] * size[1]
    ratios = ASPECT ** (2 * ratios - 1)
    sides, limit = torch.stack([areas / ratios, areas * ratios], -1).sqrt().round(), torch.tensor(size)
    fits = ((sides >= 1) & (sides <= limit)).all(-1)
    first = sides[torch.arange(count), fits.int().argmax(1)]
    chosen = torch.where(fits.any(1, keepdim=True), first, limit)
    room = limit - chosen
    places = drawn(lambda n, g: torch.rand(n, 2, generator=g), count, generator)
    corners = (places * (room + 1)).floor().minimum(room)
    return torch.cat([corners, chosen], 1)


def flipped(images: Tensor, generator: Generators) -> Tensor:
    """Mirror each image left to right with probability one half."""
    mirrored = drawn(lambda n, g: torch.rand(n, 1, 1, 1, generator=g), len(images), generator) < 0.5
    return torch.where(mirrored.to(images.device), images.flip(3), images)


def recoloured(
    images: Tensor, jitter: float, lighting: float, generator: Generators, *, normalisation: Normalisation
) -> Tensor:
    """Change brightness, contrast and saturation of each image in an order of its own, then add a colour to it.

    Each change blends the image with black, its mean grey or its grey self by a weight from U(-jitter, jitter), so
    that all of them together are one 3x3 matrix and one offset an image.  Nothing is clamped, as in the field.

    Args:
        images: with three channels; others are returned as they are.
        lighting: deviation of the weights of ``COLOUR_DIRECTIONS``.
        normalisation: how the images were normalised.
    """
    if images.shape[1] != 3 or jitter == lighting == 0:
        return images
    given = (normalisation.mean, normalisation.std)
    mean, std = (torch.as_tensor(value).to(images).flatten().expand(3) for value in given)
    matrix, offset = _jitter(images.mean((2, 3)) * std + mean, jitter, generator)
    weights = drawn(lambda n, g: torch.randn(n, 3, generator=g), len(images), generator)
    colours = weights * lighting * torch.tensor(COLOUR_SCALES)
    offset = offset + (colours @ torch.tensor(COLOUR_DIRECTIONS).T).to(images)
    offset = (matrix @ mean + offset - mean) / std
    matrix = matrix * std / std[:, None]
    return torch.baddbmm(offset[:, :, None], matrix, images.flatten(2)).view_as(images)


def _jitter(means: Tensor, strength: float, generator: Generators) -> tuple[Tensor, Tensor]:
    """``(batch, 3, 3)`` and ``(batch, 3)`` of the three changes of images whose channels have these means."""
    batch = len(means)
    weights, order = (drawn(lambda n, g: torch.rand(n, 3, generator=g), batch, generator) for _ in range(2))
    weights, order = (strength * (2 * weights - 1)).to(means), order.argsort(1).to(means.device)
    grey, one = means.new_tensor(GREY), torch.eye(3).to(means)
    matrix, offset = one.expand(batch, 3, 3), torch.zeros_like(means)
    for kind in order.T:  # 0 brightness, 1 contrast, 2 saturation
        weight = weights.gather(1, kind[:, None])
        luminance = ((matrix @ means[:, :, None])[:, :, 0] + offset) @ grey
        to_grey = torch.where(kind == 2, weight[:, 0], 0)[:, None, None] * grey
        step = (1 - weight)[:, :, None] * one + to_grey
        constant = torch.where(kind == 1, weight[:, 0] * luminance, 0)[:, None]
        matrix, offset = step @ matrix, (step @ offset[:, :, None])[:, :, 0] + constant
    return matrix, offset


def cutmixed(images: Tensor, concentration: float, generator: Generator) -> tuple[Tensor, Tensor, float]:
    """Fill one box of every image from another image of the batch (CutMix, Yun et al., 2019).

    Args:
        concentration: both parameters of the Beta law of the area that is kept, before the box is cut at the border.

    Returns:
        the images, ``(batch,)`` indices of the image that each box is from, and the fraction of the area that is kept.
    """
    batch, _, height, width = images.shape
    seed, row, column = torch.randint(2**62, (3,), generator=generator).tolist()
    side = math.sqrt(1 - np.random.default_rng(seed).beta(concentration, concentration))
    partners = torch.randperm(batch, generator=generator).to(images.device)
    top, bottom = _span(row % height, int(height * side), height)
    left, right = _span(column % width, int(width * side), width)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    return mixed, partners, 1 - (bottom - top) * (right - left) / (height * width)


def _span(centre: int, length: int, limit: int) -> tuple[int, int]:
    return max(centre - length // 2, 0), min(centre + length // 2, limit)
