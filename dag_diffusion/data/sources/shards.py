"""Files that one data set is cut into: parquet as on the Hub, tars of webdataset, saved here or named by a pattern.

    FOLDER/data/train-00000-of-00002.parquet ...   FOLDER/train/0000.parquet   FOLDER/000000.tar   s-{000..012}.tar

One split at a time: files of several are refused with a pattern that names one.
"""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dag_diffusion.data.class_names import listed
from dag_diffusion.data.images import image_suffixes

from .folders import DECORATION
from .splits import split_of
from .walking import images_in, visible_folders

PARQUET, TAR = ".parquet", ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # in the names of Spark: part-00000-UUID-c000.snappy
SHARD = re.compile(rf"(.*?)[0-9]+(?:[-_]of[-_][0-9]+(?:-[0-9a-f]{{8,}})?(?P<rest>([-_.].*)?)|-{UUID}.*)?")
LEVELS = 2  # of folders that are looked into for tables


def shards_of(source: Path) -> list[Path] | None:
    """The tables or tars that a file, a folder or a pattern such as ``shard-{000..012}.tar`` stands for; else None.

    Raises:
        ValueError: a folder has several splits, or tables and tars, or packed tars; or a pattern needs webdataset.
        FileNotFoundError: a pattern fits no file, or names one that is missing.
    """
    if source.is_file():
        _refuse_packed(source, [source.name])
        return [source] if source.suffix.lower() in (PARQUET, TAR) else None
    if not source.exists():
        return _expanded(source) if re.search(r"[{*?\[]", str(source)) else None
    try:
        found = _tables_below(source, LEVELS)
    except PermissionError:  # which is told where the folder counts, as one of a class
        return None
    if not found:
        if not visible_folders(source):
            _refuse_packed(source, sorted(os.listdir(source)))
        return None
    if len(found) > 1:
        names = [folder.relative_to(source).as_posix() for folder in found]
        raise ValueError(
            f"{source} has tables in {listed(names)}, as of several splits; give one of them: {next(iter(found))}"
        )
    return _of_one_split(*found.popitem())


def is_there(source: Path) -> bool:
    """Whether there is a folder or file, or a pattern stands for some.

    Raises:
        FileNotFoundError: a pattern fits no file.
    """
    return source.exists() or shards_of(source) is not None


def _tables_below(folder: Path, levels: int) -> dict[Path, list[Path]]:
    """Tables by their folders; none where others hold images, which are read as class folders."""
    found = {folder: own} if (own := _tables_in(folder)) else {}
    for name in visible_folders(folder):
        tables = _tables_below(folder / name, levels - 1) if levels else {}
        if folder / name not in tables and name.casefold() not in DECORATION and any(images_in(folder, name)):
            return {}
        found |= tables
    return found


def _tables_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        named = [entry for entry in entries if os.path.splitext(entry.name)[1].lower() in (PARQUET, TAR)]
        found = [e.name for e in named if e.is_file() and not e.name.startswith(".")]
    return [folder / name for name in sorted(found) if name != "metadata.parquet"]


def _refuse_packed(source: Path, names: Sequence[str]) -> None:
    packed = [name for name in names if name.lower().endswith(PACKED)]
    if packed and not any(os.path.splitext(name)[1].lower() in image_suffixes() for name in names):
        raise ValueError(
            f"{source} is packed ({packed[0]}), where images cannot be read one by one; unpack it, into a folder or "
            "a .tar"
        )


def _of_one_split(folder: Path, files: Sequence[Path]) -> list[Path]:
    kinds = {path.suffix.lower() for path in files}
    if len(kinds) > 1:  # as img2dataset leaves them, whose tables are of addresses
        one = folder / f"*{TAR}"
        raise ValueError(f"{folder} has tables beside tars; give those that hold the images, such as '{one}'")
    parts: dict[tuple[str, str], list[Path]] = defaultdict(list)  # by what stands before and after the number
    for path in files:
        found = SHARD.fullmatch(path.stem)
        parts[(found[1], found["rest"] or "") if found else (path.stem, "")].append(path)
    if len(parts) > 1:
        name, rest = max(parts, key=lambda part: len(part[1]))  # whose pattern fits no other
        first = parts[name, rest]
        one = first[0] if len(first) == 1 else folder / f"{name}[0-9]*{rest}{first[0].suffix}"
        called = [name.rstrip("-_.") + rest or "0" for name, rest in parts]
        names = f"{folder} has tables of several names, {listed(called)}"
        if len(_splits_of(files)) > 1:
            raise ValueError(f"{names}, such as splits have; give one of them: '{one}'")
        raise ValueError(f"{names}; give one of them, '{one}', or all, '{folder / f'*{first[0].suffix}'}'")
    return list(files)


def _splits_of(files: Sequence[Path]) -> set[str]:
    """Splits that files are told to be of by words that not all of their names have."""
    root = os.path.commonpath([path.parent for path in files])
    words = [re.split("[-_./]", path.relative_to(root).with_suffix("").as_posix()) for path in files]
    told = {frozenset(split for word in of if (split := split_of(word))) for of in words} - {frozenset()}
    return set(map(", ".join, map(sorted, told)))


def _expanded(pattern: Path) -> list[Path]:
    names = [str(pattern)]
    if "{" in names[0]:
        try:
            from webdataset.shardlists import expand_urls
        except ImportError as error:
            raise ValueError(
                f"the pattern {pattern} needs webdataset; install the extra dag-diffusion[webdataset], or give a "
                "pattern with *"
            ) from error
        names = expand_urls(names[0])
    found = [Path(one) for name in names for one in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])]
    if not found or not all(path.is_file() for path in found):
        missing = next((path for path in found if not path.is_file()), pattern)
        raise FileNotFoundError(f"there is no file {missing}, which {pattern} stands for; mend the pattern")
    strange = [path for path in found if path.suffix.lower() not in (PARQUET, TAR)]
    if strange or len({path.suffix.lower() for path in found}) > 1:
        raise ValueError(f"{pattern} stands for {(strange or found)[0]} and others; give .parquet files alone, or .tar")
    if len(splits := _splits_of(found)) > 1:
        raise ValueError(
            f"{pattern} stands for files of several splits, {', '.join(sorted(splits))}; give a pattern that fits one "
            f"of them, or one file, such as {found[0]}"
        )
    return found
