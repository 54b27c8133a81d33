"""TIFFs that Pillow does not write: of many bands, of deep colours, and of planes one after the other."""

import struct

import numpy as np


def tiff_of_bands(bands: np.ndarray, sample_format: int = 1, *, planar: bool = False) -> bytes:
    """A TIFF without compression of ``(height, width, bands)``, of which the first three are red, green and blue."""
    height, width, count = bands.shape
    pixels = (bands.transpose(2, 0, 1) if planar else bands).tobytes()
    planes = count if planar else 1
    lists = [[8 * bands.itemsize] * count, [sample_format] * count, [0] * planes, [len(pixels) // planes] * planes]
    tags = {256: [width], 257: [height], 258: lists[0], 259: [1], 262: [1 + (count > 1)], 273: lists[2], 277: [count]}
    tags |= {278: [height], 279: lists[3], 284: [1 + planar], 339: lists[1]}
    more = 8 + 2 + 12 * len(tags) + 4
    start = more + sum(4 * len(values) for values in tags.values())  # of the pixels
    tags[273] = [start + plane * len(pixels) // planes for plane in range(planes)]
    entries, words = b"", b""
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", more + len(words))
        words += b"\0" * 4 if len(values) == 1 else packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + b"\0" * 4 + words + pixels
