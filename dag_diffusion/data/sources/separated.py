"""Text files whose fields are separated by commas, semicolons or tabs, as spreadsheets of all countries write them.

    file,label,difficulty        file;label;difficulty        sep=;   as Excel writes before all others
    0.png,cat,0.95               0.png;cat;0,95               "tench, Tinca tinca"   a field with a comma in it

Which one it is, and whether 0,95 is a number, is told by the whole file, never by a line.
"""

import codecs
import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SEPARATORS = (",", ";", "\t")
SAYS_ITSELF = re.compile('"?sep=(.)"?')
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I)
WITH_COMMA = re.compile(r"[-+]?\d*,\d+")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")


def text_of(file: Path, size: int = -1) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as spreadsheets write Unicode text with tabs.

    Args:
        size: bytes from the start to read; a letter that is cut is left out.

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    with file.open("rb") as opened:
        data = opened.read(size)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return codecs.getincrementaldecoder(encoding)().decode(data, final=size < 0)


def other_encoding(file: Path) -> ValueError:
    """The error of a list whose letters cannot be told."""
    return ValueError(
        f"{file} is in another encoding than UTF-8, so that its words cannot be told; save it as UTF-8, which "
        "spreadsheets offer as CSV UTF-8"
    )


def separators_in(text: str) -> tuple[list[str], str]:
    """Separators that may be those of a text, and the text without a first line that says it; none there, no other."""
    first, _, rest = text.partition("\n")
    if told := SAYS_ITSELF.fullmatch(first.strip("\r")):
        return [told[1]], rest
    return [one for one in SEPARATORS if one in text], text


def fields_of(line: str, separator: str) -> list[str]:
    """The fields of a line; one, where it is no such line."""
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error:  # such as of megabytes without a separator
        return [line]


def numbers_with_commas(values: Iterable[str | None], separator: str) -> bool:
    """Whether a column has decimal commas: all are numbers, and 1,234 is none of thousands.

    Where semicolons are separators a comma is never that of thousands.
    """
    written = [value.strip() for value in values if value and value.strip()]
    if not all(NUMBER.fullmatch(value) or WITH_COMMA.fullmatch(value) for value in written):
        return False
    commas: Sequence[str] = [value for value in written if "," in value]
    return any(separator == ";" or not THOUSANDS.fullmatch(value) for value in commas)
