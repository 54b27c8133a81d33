"""One size and one number of channels for all images of a folder, by the headers of all of them.

    channels = 3 if any image has colours, else 1
    size     = that of most images, if half or more share it; else a square, whose side is the median shorter side

One image says nothing of the others: among photographs a few are grey, and one may be a thumbnail.
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median_low

from .images import Header, header_of, readable
from .pools import Pool


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
        share = f"as {self.of_that_size} are" if self.of_that_size else "by their median shorter side"
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
    """The size and channels for all images of a pool, none of which is decoded.

    Raises:
        UnreadableImageError: a file is no image; it is named.
    """
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        return _kind_of(list(threads.map(lambda index: _header(pool, index), range(len(pool)))))


def channels_of(pool: Pool) -> int:
    """1 if every image is grey, else 3."""
    return common_kind(pool).channels


def _header(pool: Pool, index: int) -> Header:
    name = pool.path / pool.rows[index]["file_name"]
    with readable(name):
        return header_of(name if pool.encoded is None else pool.encoded[index])


def _kind_of(headers: Sequence[Header]) -> CommonKind:
    counts = Counter((header.height, header.width) for header in headers)
    size, most = max(counts.items(), key=lambda item: (item[1], item[0]))
    if 2 * most < len(headers):
        side = median_low(min(header.height, header.width) for header in headers)
        size = (side, side)
    grey = sum(header.grey for header in headers)
    return CommonKind(
        size=size,
        channels=1 if grey == len(headers) else 3,
        images=len(headers),
        sizes=len(counts),
        of_that_size=counts[size],
        grey=grey,
    )
