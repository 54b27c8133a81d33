"""What is shared of a pool, distilled set or pipeline: checked, without paths of this machine, in a folder of its own.

    SET -> images, metadata.jsonl, labels.json, pool.json, FIGURE.webp, README.md, and soft labels if there are some:
           soft_labels.safetensors, view_labels.json, view_labels-*.safetensors
    PIPELINE -> model_index.json, PART/{config.json, *.safetensors}, pipeline.py, README.md

Nothing else goes along, and nothing goes before all of it has been looked at: ``datasets`` leaves out an image without
a row in silence, and notices a missing or torn file only in a training.
"""

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from PIL import Image

from dag_diffusion.classifiers.weights import PICKLES
from dag_diffusion.data.dataset_cards import CARD, card_in, configs_in, is_as_written, with_configs, write_labels
from dag_diffusion.data.files import json_line, read_json_object, write_atomically, write_config, write_json
from dag_diffusion.data.images import UnreadableImageError, image_suffixes, suffix_of, wait_if_large
from dag_diffusion.data.layouts import placements, with_suffix
from dag_diffusion.data.pools import PROVENANCE, Pool, read_pool
from dag_diffusion.data.rows import METADATA, Row, for_loaders, require_inside, with_columns
from dag_diffusion.data.sources.shards import is_there
from dag_diffusion.data.sources.walking import NO_DATA
from dag_diffusion.evaluation.soft_labels import (
    SOFT_LABELS,
    VIEW_LABELS,
    LabelSource,
    read_soft_labels,
    read_view_labels,
    with_other_names,
)
from dag_diffusion.evaluation.soft_labels.per_image import image_source
from dag_diffusion.evaluation.soft_labels.view_files import read_index, renamed_index, view_source

from .cards import dataset_card, model_card

logger = logging.getLogger(__name__)
Kind = Literal["dataset", "model"]  # of a repository
INDEX = "model_index.json"
# no PNG: timm takes one beside the class folders for an image of a class without name, and moves all labels by one
FIGURES = HISTOGRAM, EXAMPLES = "difficulty.webp", "examples.webp"
EARLIER_FIGURES = ("difficulty.png", "examples.png")
PIPELINE_CODE = "pipeline.py"
CODE = '''"""What ``DiffusionPipeline.from_pretrained(..., custom_pipeline=...)`` runs; it needs dag-diffusion."""

from dag_diffusion import DifficultyGuidedPipeline  # noqa: F401
'''
MOST_CLASSES = 10  # in the picture of examples
UNKNOWN = {"source": "a folder of images that no dag-diffusion command made"}  # in place of a missing record
# file:///home/me/x, C:\Users\me\x, \\server\me\x, ../../me/x, ~/me/x or /home/me/x in a text
LOCAL = re.compile(
    r"(?:file://|(?<!\w)[A-Za-z]:[/\\]|(?<!\S)\\\\(?=\w)|(?<![\w./])(?:(?:\.\./)+|~/)"
    r"|(?:^|(?<=[\s*(=[{;|>`'\"])|(?<=,)(?<!base64,)|(?<=:)(?!//))/(?=\S))(?:[^/\\,\n]*[/\\])*([^/\\,\n]+)"
)
# one below somebody's home; of other texts in rows little can be told: /m/01g317 may be a class
AT_HOME = re.compile(
    r"(?<![\w./])(?:file://)?(?:/home|/Users|/root|~|\b[A-Za-z]:[/\\]Users)[/\\](?:[^\s/\\]+[/\\])*([^\s/\\]+)"
)
CONFIGS = ("config.json", "scheduler_config.json", "preprocessor_config.json")


def kind_of(source: Path) -> Kind:
    """``model`` for the folder of a pipeline, ``dataset`` for whatever ``read_pool`` reads.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is the folder of a single model.
    """
    if not is_there(source):
        raise FileNotFoundError(f"there is nothing at {source}; give the folder of a pool, distilled set or pipeline")
    if (source / INDEX).exists():
        return "model"
    if (source / "config.json").exists() and not (source / METADATA).exists():
        raise ValueError(
            f"{source} is a single model; push the pipeline that it is a part of, or the model by its own push_to_hub"
        )
    return "dataset"


def without_local_paths(value: Any) -> Any:
    """A record whose absolute paths are cut down to their last name: the rest is of no use to others, and private."""
    if isinstance(value, str):
        return LOCAL.sub(r"\1", value)
    if isinstance(value, Mapping):
        short = {key: without_local_paths(key) for key in value}
        counts = Counter(short.values())
        return {
            short[key] if counts[short[key]] == 1 else key: (
                _of_classes(one) if key == "classes" else without_local_paths(one)
            )
            for key, one in value.items()
        }
    return [without_local_paths(one) for one in value] if isinstance(value, list) else value


def _without_places(value: Any) -> Any:
    """A value of a row, cut down to the name where it is the path of a file as a whole, and where one leads home."""
    if isinstance(value, Mapping):
        return {key: _without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    if not isinstance(value, str) or "\n" in value:
        return value
    path = PureWindowsPath(value.removeprefix("file://"))  # which parts at slashes of either kind
    is_whole = bool(path.root) and re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix) is not None
    return path.name if is_whole or path.parts[:1] == ("..",) else AT_HOME.sub(r"\1", value)


def _of_classes(value: Any) -> Any:
    """A record by class, or the classes' names, which stay as they are: one may be called /m/01g317."""
    return {name: without_local_paths(one) for name, one in value.items()} if _is_by_class(value) else value


def _is_by_class(value: Any) -> bool:
    """Whether it is a record for each class, such as a target's, and not just the classes' names."""
    return isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values())


def gather_set(
    source: Path, folder: Path, repo: str, *, title: str | None = None, license: str | None = None, copy: bool
) -> None:
    """Put everything of a pool or distilled set into an empty folder.

    Args:
        copy: the images themselves, else symbolic links to them, which cost nothing and are enough to upload.

    Raises:
        ValueError: the pool is not finished, an image has no row, a row no image, or a column mixes kinds of values.
        UnreadableImageError: an image is torn.
    """
    pool = read_pool(source)
    home = pool.listing or pool.path
    if pool.encoded is None:  # folders without rows may hold links, which nothing else of this machine goes along by
        require_inside(pool.path, pool.rows, pool.path)
    require_complete(pool)
    places = placements(pool.rows, pool.class_names)
    rows = [_placed(pool, index, folder, place, copy) for index, place in enumerate(places)]
    provenance = without_local_paths(pool.provenance) or UNKNOWN
    labels = _gather_soft_labels(home, folder, pool, rows)
    write_json(folder / PROVENANCE, provenance)
    write_labels(folder, rows)
    write_atomically(folder / METADATA, map(json_line, rows))
    shared = Pool(folder, rows, provenance)
    figures = _draw(shared, folder)
    shown = title or home.stem.replace("-", " ").replace("_", " ")
    card = dataset_card(shared, repo, title=shown, license=license, figures=figures, labels=labels)
    _write_card(home, folder, card, license, title)


def _write_card(source: Path, folder: Path, card: str, license: str | None, title: str | None) -> None:
    """Write the card, or the user's own, to which what ``load_dataset`` needs, licence and title are added if given."""
    from huggingface_hub import RepoCard

    found = card_in(source)
    if found and not is_as_written(found):
        card = with_configs(found, configs_in(card))
        given = {name: value for name, value in (("license", license), ("pretty_name", title)) if value}
        if given:
            own = RepoCard(card)
            for name, value in given.items():
                own.data[name] = value
            card = str(own)
        if title:
            logger.warning("%s of %s keeps its heading; the title is its pretty_name alone", CARD, source)
    write_atomically(folder / CARD, card.encode())


def require_complete(pool: Pool) -> None:
    """Check that every image has a row and can be decoded; that every row has a file ``read_pool`` has checked.

    Raises:
        ValueError: an image has no row; it is named.
        UnreadableImageError: an image is torn; it is named.
    """
    if pool.encoded is None and pool.listing is None and (pool.path / METADATA).exists():
        named = {PurePath(row["file_name"]).as_posix() for row in pool.rows}
        if strangers := sorted(name for name in _images_below(pool.path) if name not in named):
            raise ValueError(
                f"{len(strangers)} images in {pool.path} have no row in {METADATA} (first: {strangers[0]}), so that "
                "they would never be seen; remove them, or add their rows"
            )
    with ThreadPoolExecutor() as threads:
        broken = [error for error in threads.map(lambda index: _error_of(pool, index), range(len(pool))) if error]
    if broken:
        raise UnreadableImageError(f"{len(broken)} of {len(pool)} images cannot be read; the first: {broken[0]}")


def _images_below(root: Path) -> Iterator[str]:
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in NO_DATA]
        for name in files:
            path = Path(place, name).relative_to(root)
            if len(path.parts) > 1 and path.suffix.lower() in image_suffixes() and not name.startswith("."):
                yield path.as_posix()


def _error_of(pool: Pool, index: int) -> UnreadableImageError | None:
    try:
        with ExitStack() as held:
            pool.open(index, partial(wait_if_large, held))
    except UnreadableImageError as error:
        return error
    return None


def _placed(pool: Pool, index: int, folder: Path, place: str, copy: bool) -> Row:
    """Put one image into the folder; its row."""
    row = for_loaders(pool.rows[index])
    if pool.encoded is not None:
        target = (folder / place).with_suffix(suffix_of(pool.encoded[index]))
    else:
        target = folder / with_suffix(place, pool.path / row["file_name"])
    target.parent.mkdir(parents=True, exist_ok=True)
    if pool.encoded is not None:
        target.write_bytes(pool.encoded[index])
    elif copy:
        shutil.copyfile(pool.path / row["file_name"], target)
    else:
        target.symlink_to((pool.path / row["file_name"]).resolve())
    shared = {name: value if name == "class_name" else _without_places(value) for name, value in row.items()}
    by = {"difficulty_by": without_local_paths(row["difficulty_by"])} if "difficulty_by" in row else {}
    return with_columns(row, {**shared, **by, "file_name": target.relative_to(folder).as_posix()})


def _gather_soft_labels(home: Path, folder: Path, pool: Pool, rows: list[Row]) -> list[LabelSource]:
    """Write soft labels with the names that the images have now; whose they are, those of each image first."""
    names = {old["file_name"]: new["file_name"] for old, new in zip(pool.rows, rows, strict=True)}
    found = []
    if home.is_dir() and (home / SOFT_LABELS).exists():
        read_soft_labels(pool)  # refuses what does not fit the set
        data, teacher = with_other_names((home / SOFT_LABELS).read_bytes(), names, without_local_paths)
        write_atomically(folder / SOFT_LABELS, data)
        source = image_source(pool)
        found.append(replace(source, teacher=replace(source.teacher, name=teacher or "unnamed")))
    if home.is_dir() and (home / VIEW_LABELS).exists():
        read_view_labels(pool)
        index = renamed_index(read_index(home), names, without_local_paths)
        for shard in index["shards"]:
            shutil.copyfile(home / Path(shard["file"]).name, folder / Path(shard["file"]).name)
        write_json(folder / VIEW_LABELS, index)
        source = view_source(pool)
        found.append(replace(source, teacher=replace(source.teacher, name=index["teacher"]["name"] or "unnamed")))
    return found


def _draw(pool: Pool, folder: Path) -> list[str]:
    """Figures for the card, if the images have difficulties."""
    scored = [row for row in pool.rows if row.get("difficulty") is not None]
    if len(scored) < len(pool) or not scored:
        return []
    from dag_diffusion.reporting.difficulty_figures import save_grid_png, save_histogram_png
    from dag_diffusion.reporting.sets import ReportedSet

    chosen = [ReportedSet(f"{len(pool):,} images", pool)]
    first = set(sorted(pool.class_names)[:MOST_CLASSES])
    with TemporaryDirectory() as drawn:
        histogram = save_histogram_png(Path(drawn, "1.png"), reference={}, pools=[], selected=chosen)
        shown = replace(pool, rows=[row for row in pool.rows if row["label"] in first])
        for name, png in ((HISTOGRAM, histogram), (EXAMPLES, save_grid_png(Path(drawn, "2.png"), shown))):
            with Image.open(png) as figure:
                figure.save(folder / name, lossless=True)
    return [HISTOGRAM, EXAMPLES]


def gather_pipeline(
    source: Path, folder: Path, repo: str, *, title: str | None = None, license: str | None = None, copy: bool
) -> None:
    """Put everything of a saved pipeline into an empty folder; see ``gather_set``.

    Raises:
        ValueError: it is another pipeline than ``DifficultyGuidedPipeline``, or a part has no safetensors weights.
    """
    index = read_json_object(source / INDEX)
    if "DifficultyGuidedPipeline" not in str(index.get("_class_name")):
        raise ValueError(
            f"{source} holds a {index.get('_class_name')}; load it by DifficultyGuidedPipeline.from_pretrained, with "
            "the guide that belongs to it, and save it by save_pretrained"
        )
    parts = {name: kind[1] for name, kind in index.items() if name[:1] != "_" and is_part(kind)}
    if strange := [name for name in parts if PurePath(name).name != name]:
        raise ValueError(f"{source / INDEX} names the part {strange[0]!r}, which is no folder in it; mend the name")
    write_config(folder / INDEX, {**_without_origin(index), "_class_name": "DifficultyGuidedPipeline"})
    table = [_gather_part(source / name, folder / name, kind, copy) for name, kind in parts.items()]
    write_atomically(folder / PIPELINE_CODE, CODE.encode())
    names = index.get("id2label") or {}
    classes = [str(names[label]) for label in sorted(names, key=int)]
    shown = title or source.name.replace("-", " ").replace("_", " ")
    card = model_card(repo, table, classes, title=shown, license=license)
    _write_card(source, folder, card, license, title)


def _gather_part(source: Path, folder: Path, kind: str, copy: bool) -> dict[str, str]:
    """One component, its configurations without local paths; its row in the card."""
    files = sorted(source.iterdir()) if source.is_dir() else []
    weights = [file for file in files if file.suffix == ".safetensors"]
    if not weights and any(file.suffix.lower() in PICKLES for file in files):
        raise ValueError(
            f"{source} has its weights only as a pickle, which may run any program when it is read; load the pipeline "
            "with use_safetensors=None if you trust it, and save it again"
        )
    if not files:
        raise ValueError(f"{source} is missing, though {INDEX} names it; save the pipeline again by save_pretrained")
    folder.mkdir()
    for file in weights:
        shutil.copyfile(file, folder / file.name) if copy else (folder / file.name).symlink_to(file.resolve())
    for file in files:
        if file.name in CONFIGS or file.name.endswith(".safetensors.index.json"):
            write_config(folder / file.name, _without_origin(read_json_object(file)))
    count = sum(map(_parameters, weights))
    return {"name": source.name, "kind": kind, "parameters": f"{count:,}" if count else ""}


def is_part(kind: Any) -> bool:
    """Whether an entry of a pipeline's index is a part, which has a folder."""
    return isinstance(kind, list) and len(kind) == 2 and kind[0] is not None


def _without_origin(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the folder from which it was loaded."""
    return {name: without_local_paths(one) if name == "_name_or_path" else one for name, one in config.items()}


def _parameters(file: Path) -> int:
    from math import prod

    from safetensors import safe_open

    with safe_open(file, "np") as stored:
        return sum(prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118 - no mapping
