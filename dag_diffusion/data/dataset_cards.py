"""What a set says of itself to loaders: the card ``README.md`` with its ``configs``, and ``labels.json``.

    card = YAML + page + seal,   seal = hash of all before it        labels.json = folder -> label and class name

A card whose seal fits is as it was written; one that was edited is kept, but for its ``configs``.  Only from there do
``datasets`` take the names of classes, and which files are the set's.  They also tell a set by its contents, since
``datasets`` knows a folder with a card by its name and ``configs`` alone, and would show the images of an earlier one.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from .class_names import distinct_names
from .files import json_line, write_atomically, write_json
from .layouts import misreading
from .provenance import generation_of, measured_among, real_images_of
from .rows import METADATA, Row

logger = logging.getLogger(__name__)
CARD, LABELS = "README.md", "labels.json"
SEAL = "<!-- card of dag-diffusion {}; edit it freely, an edited card is kept -->"
CONTENTS = "contents "  # how the description of a set begins
MOST_LABELS = 65_536  # names are listed up to the highest label, which a stray row may have put anywhere
MOST_READ = 10_000  # images whose bytes are hashed; of more, their sizes
ARROW_TYPES = {"int64": "int64", "double": "float64", "string": "string", "bool": "bool", "null": "float64"}
PAGE = """# {images:,} images of {classes:,} classes

Written by dag-diffusion; `pool.json` tells how.{facts}

```python
from datasets import load_dataset

data = load_dataset("FOLDER", split="train")
data.features["label"].names  # class names, by label
```

Readers of folders, such as torchvision's `ImageFolder`, number the sorted folders. `labels.json` has the label and the
class name of each folder, `metadata.jsonl` a row for each image.
"""


def sealed(text: str) -> str:
    """A card with the seal by which ``is_as_written`` knows it again."""
    text = text.rstrip() + "\n\n"
    return text + SEAL.format(_hash(text)) + "\n"


def is_as_written(text: str) -> bool:
    """Whether a card was not changed since it was sealed."""
    body, _, seal = text.replace("\r\n", "\n").rstrip().rpartition("\n")
    return seal == SEAL.format(_hash(body + "\n"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_configs(edited: str, configs: Sequence[Mapping[str, Any]] | None) -> str:
    """A card that tells these ``configs``, and is left alone otherwise; sealed again if its seal did fit.

    Raises:
        ValueError: the YAML on top of the card cannot be read.
    """
    from huggingface_hub import DatasetCard

    try:
        card = DatasetCard(edited)
    except Exception as error:  # of the YAML parser, of the client's own checks
        reason = " ".join(str(error).split())
        raise ValueError(f"the YAML on top of the edited {CARD} cannot be read ({reason}); mend it there") from error
    if configs is None or card.data.get("configs") == configs:
        return edited
    card.data["configs"] = configs
    if not is_as_written(edited):
        return str(card)
    return sealed(str(card).rstrip().rpartition("\n")[0])


def card_in(folder: Path) -> str:
    """The card of a folder, empty if it has none; one that is a link might be any file of this machine."""
    path = folder / CARD
    return path.read_text("utf-8", "replace") if path.is_file() and not path.is_symlink() else ""


def configs_in(card: str) -> list[dict[str, Any]] | None:
    """The ``configs`` of a card; None if it has none, as that of a pipeline."""
    from huggingface_hub import DatasetCard

    return DatasetCard(card).data.get("configs")


def configs_of(rows: Sequence[Row], provenance: Mapping[str, Any], contents: str) -> list[dict[str, Any]]:
    """What ``load_dataset`` needs to know of a set: its files, and the types of its columns with the class names.

    Args:
        contents: a word that is another one for another set, see ``contents_of``.

    Raises:
        ValueError: a column mixes kinds of values.
    """
    return [
        {
            "config_name": "default",
            "description": CONTENTS + contents,
            "data_files": _data_files(rows),
            "features": features_of(rows, provenance),
        }
    ]


def _data_files(rows: Sequence[Row]) -> list[dict[str, Any]]:
    names = [PurePath(row["file_name"]) for row in rows]
    deep = ["*/**"] if any(len(name.parts) > 1 for name in names) else []
    flat = sorted({f"*{name.suffix}" for name in names if len(name.parts) == 1})
    return [{"split": "train", "path": [METADATA, *deep, *flat]}]


def contents_of(rows: Sequence[Row], folder: Path, more: str = "") -> str:
    """A hash of rows and images, and of what else tells sets apart."""
    found = hashlib.sha256()
    for row in rows:
        found.update(json_line(row))
    found.update(more.encode())
    for path in (folder / row["file_name"] for row in rows):
        if path.is_file():  # one that is gone is for others to notice
            data = path.read_bytes() if len(rows) <= MOST_READ else str(path.stat().st_size).encode()
            found.update(hashlib.sha256(data).digest())
    return found.hexdigest()[:16]


def features_of(rows: Sequence[Row], provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name and type of each column in the words of ``datasets``, in which the label has the names of the classes.

    Raises:
        ValueError: a column mixes kinds of values.
    """
    columns = dict.fromkeys(name for row in rows for name in row if name != "file_name")
    features = [_feature(name, [row.get(name) for row in rows]) for name in columns]
    labels = [row["label"] for row in rows]
    if min(labels) >= 0 and max(labels) < MOST_LABELS:
        names = {str(label): name for label, name in enumerate(_label_names(rows, provenance))}
        coded = {"name": "label", "dtype": {"class_label": {"names": names}}}
        features = [coded if feature["name"] == "label" else feature for feature in features]
    return [{"name": "image", "dtype": "image"}, *features]


def _feature(name: str, values: Sequence[Any]) -> dict[str, Any]:
    import pyarrow as pa

    try:
        kind = pa.array(values).type
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(
            f"the column {name!r} of the metadata mixes kinds of values, which `datasets` cannot read ({error}); "
            "make them all numbers, or all text"
        ) from error
    if str(kind) in ARROW_TYPES:
        return {"name": name, "dtype": ARROW_TYPES[str(kind)]}
    return _nested_feature(pa.schema([pa.field(name, kind)]))


def _nested_feature(schema: Any) -> dict[str, Any]:
    from datasets import DatasetInfo, Features
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    data = DatasetCardData()
    info = DatasetInfo(features=Features.from_arrow_schema(schema))
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return data["dataset_info"]["features"][0]


def _label_names(rows: Sequence[Row], provenance: Mapping[str, Any]) -> list[str]:
    """A name for every label up to the highest, all different."""
    recorded = generation_of(provenance).get("classes") or {}
    names = {int(label): str(name) for label, name in recorded.items()}
    names |= {row["label"]: row["class_name"] for row in rows}
    every = {label: names.get(label, f"LABEL_{label}") for label in range(max(names) + 1)}
    return list(distinct_names(every).values())


def write_labels(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``labels.json``, which tells readers of folders what each is."""
    found = {PurePath(row["file_name"]).parts[0]: row for row in rows}
    known = {name: {"label": row["label"], "class_name": row["class_name"]} for name, row in sorted(found.items())}
    write_json(folder / LABELS, known)


def describe(
    folder: Path, rows: Sequence[Row], provenance: Mapping[str, Any], *, place: Path | None = None, earlier: str = ""
) -> None:
    """Write card and ``labels.json`` of a local set, and warn if a loader would still see something else.

    Args:
        folder: where its images are.
        place: where it will be, if it is moved from there.
        earlier: card of the set that it replaces; an edited one is kept, but for ``configs``.
    """
    place = place or folder
    write_labels(folder, rows)
    _write_card(folder, rows, provenance, place, earlier)
    if reason := misreading(folder, rows):
        logger.warning("%s is not read alike by all loaders: %s", place, reason)


def renew_card(folder: Path, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
    """Bring a card up to date after rows have changed; a folder without a card of ours is left alone."""
    found = card_in(folder)
    if f"description: {CONTENTS}" in found:
        _write_card(folder, rows, provenance, folder, found, keep=True)


def _write_card(
    folder: Path, rows: Sequence[Row], provenance: Mapping[str, Any], place: Path, found: str, *, keep: bool = False
) -> None:
    key = json.dumps(provenance, sort_keys=True)  # tells sets of pools in two places apart
    try:
        configs = configs_of(rows, provenance, contents_of(rows, folder, key))
        kept = found and (keep or not is_as_written(found))
        text = with_configs(found, configs) if kept else _card(rows, configs, provenance)
        write_atomically(folder / CARD, text.encode())
    except ValueError as error:  # a set is right without its card, but for the names of classes in `datasets`
        logger.warning("the card of %s cannot be brought up to date: %s", place, error)
        if found:
            write_atomically(folder / CARD, found.encode())


def _card(rows: Sequence[Row], configs: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> str:
    """The same for the same set, wherever it is."""
    data = yaml.safe_dump({"configs": configs}, sort_keys=False, allow_unicode=True)
    facts = f" Distilled from {real}." if (real := real_images_of(provenance)) else ""
    facts += f" Difficulty is measured among {among} alone." if (among := measured_among(provenance)) else ""
    page = PAGE.format(images=len(rows), classes=len({row["label"] for row in rows}), facts=facts)
    return sealed(f"---\n{data}---\n\n{page}")
