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

from dag_diffusion.data.images import image_suffixes

PARQUET, TAR = ".parquet", ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
SHARD = re.compile(r"(.+?)[-_]?[0-9]+([-_]of[-_][0-9]+.*)?")


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
    with os.scandir(source) as entries:
        folders = sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    own = _tables_in(source)
    if own:
        return None if folders else _of_one_split(source, own)
    inner: dict[Path, list[Path]] = {}
    for folder in folders:
        if not (found := _tables_in(folder)):  # folders of images are read as such
            return None
        inner[folder] = found
    if not inner:
        _refuse_packed(source, sorted(os.listdir(source)))
        return None
    if len(inner) > 1:
        raise ValueError(
            f"{source} has tables in {', '.join(folder.name for folder in inner)}, as of several splits; give one of "
            f"them: {next(iter(inner))}"
        )
    folder, found = next(iter(inner.items()))
    return _of_one_split(folder, found)


def is_there(source: Path) -> bool:
    """Whether there is a folder or file, or a pattern stands for some.

    Raises:
        FileNotFoundError: a pattern fits no file.
    """
    return source.exists() or shards_of(source) is not None


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
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        found = SHARD.fullmatch(path.stem)
        splits[found[1] if found else path.stem].append(path)
    if len(splits) > 1 or len(kinds) > 1:
        if len(kinds) > 1:  # as img2dataset leaves them, whose tables are of addresses
            one = folder / f"*{TAR}"
            raise ValueError(f"{folder} has tables beside tars; give those that hold the images, such as '{one}'")
        first = next(iter(splits.values()))
        one = first[0] if len(first) == 1 else folder / f"{next(iter(splits))}*{first[0].suffix}"
        raise ValueError(
            f"{folder} has tables of several names, {', '.join(list(splits)[:3])}, such as splits have; give one of "
            f"them: '{one}'"
        )
    return list(files)


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
    return found
