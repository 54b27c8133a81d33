#!/usr/bin/env bash
# Library: Pillow 12.3.0
# Task: Read PNG files in which one grey level or colour is transparent (chunk tRNS), as clip art and icons have it.
# One would guess: convert("RGBA") makes the pixels of that level transparent, whatever the depth of the file.
# What happens: Greys of 2 and 4 bits are scaled to 8 bits, and the transparent level is not: 15, which is white in 4
#   bits, stays 15 beside pixels of 255, so that nothing is transparent; only 0 works.  Colours of 16 bits keep their
#   upper byte, and the transparent colour its lower one: 0xFF80 is looked for as 0x80.
# Instead: Scale image.info["transparency"] before converting: by 85 or 17 for greys of 2 or 4 bits (mode L, rawmode
#   "L;2" or "L;4" in image.tile), and shift it by 8 for rawmode "RGB;16B".
# Output seen:
#   grey, 2 bits: alpha [255]
#   grey, 4 bits: alpha [255]
#   grey, 8 bits: alpha [0]
#   colours, 16 bits: alpha [255]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet Pillow==12.3.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import io
import struct
import sys
import zlib

from PIL import Image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth, colour_type, pixel, transparent):
    """One pixel, which is of the transparent colour."""
    header = struct.pack(">IIBBBBB", 1, 1, depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"tRNS", transparent), chunk(b"IDAT", zlib.compress(b"\0" + pixel))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


files = {
    "grey, 2 bits": png(2, 0, b"\xc0", struct.pack(">H", 3)),
    "grey, 4 bits": png(4, 0, b"\xf0", struct.pack(">H", 15)),
    "grey, 8 bits": png(8, 0, b"\xff", struct.pack(">H", 255)),
    "colours, 16 bits": png(16, 2, b"\xff\x80" * 3, b"\xff\x80" * 3),
}
found = {}
for name, data in files.items():
    found[name] = list(Image.open(io.BytesIO(data)).convert("RGBA").getchannel("A").tobytes())
    print(f"{name}: alpha {found[name]}")
if [alpha for [alpha] in found.values()] != [255, 255, 0, 255]:
    sys.exit("the behaviour has changed")
PYTHON
