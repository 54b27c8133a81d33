"""One size and one number of channels for all images of a folder, by the headers of all of them.

    channels = 3 if any image has colours, else 1
    size     = that of most images, if half or more share it; else a square, whose side is the median shorter side

One image says nothing of the others: among photographs a few are grey, and one may be a thumbnail.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median_low

from .canvas import Canvas
from .images import THREADS, Header, header_of, readable, trimmed, wait_if_large
from .pools import Pool

STRETCH = 256  # images that a thread looks at in one go, so that a million of them are not a million tasks in memory


@dataclass(frozen=True)
class CommonKind:
    """What images become when they are to be alike.

    Attributes:
        size: (height, width).
        channels: 1 (grey) or 3.
        images, sizes: how many images there are, and of how many different sizes.
        of_that_size, grey: how many images have this size as they are, and how many have no colours.
    """

    size: tuple[int, int]
    channels: int
    images: int
    sizes: int
    of_that_size: int
    grey: int

    @property
    def mixed_sizes(self) -> str:
        """A sentence on images of other sizes; empty if there are none."""
        height, width = self.size
        if self.of_that_size == self.images:
            return ""
        share = (
            f"as {self.of_that_size} are" if 2 * self.of_that_size >= self.images else "by their median shorter side"
        )
        return (
            f"{self.images} images have {self.sizes} sizes and are brought to {width} x {height} pixels, {share}; "
            "size=N chooses another"
        )

    @property
    def mixed_colours(self) -> str:
        """A sentence on grey images among coloured ones; empty if all are one or the other."""
        if self.grey in (0, self.images):
            return ""
        return f"{self.grey} of {self.images} images are grey among coloured ones; all are read in colours"


def common_kind(pool: Pool) -> CommonKind:
    """The size and channels for all images of a pool, none of which is decoded, unless they are to be trimmed.

    Raises:
        UnreadableImageError: a file is no image; it is named.
    """
    stretches = [range(first, min(first + STRETCH, len(pool))) for first in range(0, len(pool), STRETCH)]
    with ThreadPoolExecutor(THREADS) as threads:
        return _kind_of(sum(threads.map(lambda stretch: _headers(pool, stretch), stretches), Counter()))


def channels_of(pool: Pool) -> int:
    """1 if every image is grey, else 3; by headers alone, which no trimming changes."""
    return common_kind(replace(pool, canvas=Canvas())).channels


def _headers(pool: Pool, stretch: Iterable[int]) -> Counter[Header]:
    return Counter(_header(pool, index) for index in stretch)


def _header(pool: Pool, index: int) -> Header:
    name = pool.path / pool.rows[index]["file_name"]
    with readable(name), ExitStack() as held:
        found = header_of(name if pool.encoded is None else pool.encoded[index])
        height, width = found.height, found.width
        if pool.canvas.trim:  # only its pixels tell its size
            width, height = trimmed(pool.decoded(index, partial(wait_if_large, held))).size
    return Header(*pool.canvas.shape_of(height, width), found.grey)


def _kind_of(headers: Iterable[Header] | Counter[Header]) -> CommonKind:
    seen, counts = Counter(headers), Counter[tuple[int, int]]()
    images = seen.total()
    for header, count in seen.items():
        counts[header.height, header.width] += count
    size, most = max(counts.items(), key=lambda item: (item[1], item[0]))
    if 2 * most < images:
        side = median_low(min(header.height, header.width) for header in seen.elements())
        size = (side, side)
    grey = sum(count for header, count in seen.items() if header.grey)
    return CommonKind(
        size=size,
        channels=1 if grey == images else 3,
        images=images,
        sizes=len(counts),
        of_that_size=counts[size],
        grey=grey,
    )
