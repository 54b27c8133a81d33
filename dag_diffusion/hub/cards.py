"""Cards: the README.md of a shared repository, with the YAML by which the Hub and ``load_dataset`` know what is in it.

    card = YAML + page + seal,   seal = hash of all before it

A card whose seal fits is as it was written; one that was edited is kept.  ``configs`` in the YAML name files
and features: only from there do ``datasets`` take class names, and without the file patterns they would make a split of
a class called "bullet train" and lose the others.  They also tell a set by its contents, since ``datasets`` knows a
folder with such a card by its name and ``configs`` alone, and would show the images of an earlier set of that name.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.provenance import GenerationRecord, SelectionRecord, generation_of, selection_of
from dag_diffusion.data.rows import METADATA
from dag_diffusion.reporting.reproduction import commands_of

CARD = "README.md"
SEAL = "<!-- card of dag-diffusion {}; edit it freely, an edited card is kept -->"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
MOST_LABELS = 65_536  # names are listed up to the highest label, which a stray row may have put anywhere
SETTINGS = ("num_inference_steps", "guidance_scale", "seed")
LISTED_CLASSES = 20  # names in the card of a pipeline
COLUMNS = {
    "image": "the image",
    "label": "number of its class",
    "class_name": "name of its class",
    "difficulty": "measured, 0 (easy) to 1 (hard)",
    "target_difficulty": "what it was steered to, if it was",
    "seed": "random seed of its noise",
    "difficulty_by": "measure and classifiers",
    "score_key": "hash of image and classifiers, by which a score is known to be up to date",
    "source": "the image of the pool that it was",
    "bin": "bin of the difficulty scale, for which it was chosen",
    "rank": "order in which it was chosen within its class",
    "mode": "the cluster of real images that it was drawn to",
}


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


def with_configs(edited: str, written: str) -> str:
    """An edited card that says as ``written`` does which files and features there are, and is left alone otherwise.

    Raises:
        ValueError: the YAML on top of the edited card cannot be read.
    """
    from huggingface_hub import DatasetCard

    try:
        card, configs = DatasetCard(edited), DatasetCard(written).data.get("configs")
    except Exception as error:  # of the YAML parser, of the client's own checks
        reason = " ".join(str(error).split())
        raise ValueError(f"the YAML on top of the edited {CARD} cannot be read ({reason}); mend it there") from error
    if configs is None or card.data.get("configs") == configs:
        return edited
    card.data["configs"] = configs
    return str(card)


def dataset_card(
    pool: Pool,
    repo: str,
    *,
    title: str,
    license: str | None = None,
    figures: Sequence[str] = (),
    teacher: str | None = None,
) -> str:
    """The card of a pool or distilled set.

    Args:
        pool: as it will be shared, local paths taken out.
        repo: its name on the Hub, for the code that loads it.
        license: identifier such as ``cc-by-4.0``; None: not stated.
        figures: files of ``difficulty.png`` and ``examples.png`` that go along.
        teacher: teacher of the soft labels; None if there are none.
    """
    from huggingface_hub import DatasetCardData

    generation, selection = generation_of(pool.provenance), selection_of(pool.provenance)
    features = _features(pool)
    own = {"annotations_creators": ["machine-generated"]} if generation else {}
    data = DatasetCardData(
        license=license,
        task_categories=["image-classification"],
        size_categories=[next((name for most, name in SIZES if len(pool) < most), "1M<n<10M")],
        pretty_name=title,
        tags=["dataset-distillation", *(["synthetic", "diffusion"] if generation else []), "dag-diffusion"],
        configs=[
            {
                "config_name": "default",
                "description": f"contents {_contents(pool)}",
                "data_files": _data_files(pool),
                "features": _in_yaml(features),
            }
        ],
        **own,
    )
    page = _page(
        "dataset_card.md.jinja",
        title=title,
        repo=repo,
        folder=repo.rpartition("/")[2],
        facts=_facts(pool),
        generated=bool(generation),
        selection=selection,
        figures=figures,
        columns={name: COLUMNS.get(name, "as its maker recorded it") for name in features},
        soft_labels=teacher,
        made=_made(generation, selection),
        commands=commands_of(pool.provenance),
        license=license,
    )
    return sealed(f"---\n{data.to_yaml()}\n---\n\n{page}")


def _facts(pool: Pool) -> list[str]:
    counts = sorted({int((pool.labels == label).sum()) for label in pool.class_names})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [f"{len(pool):,} images", f"{len(pool.class_names):,} classes", f"{each} images per class"]


def _made(generation: GenerationRecord, selection: SelectionRecord) -> dict[str, Any]:
    settings, rows = generation.get("settings") or {}, {}
    if generation:
        rows = {"pipeline": generation.get("pipeline"), "guide": generation.get("guide")}
        target, modes, drawn = (settings.get(name) for name in ("target", "modes", "mode_guidance"))
        unsteered = "no difficulty" if modes else "nothing: unguided"
        rows["steered to"] = unsteered if target is None else (target.get("text") or "TARGET")
        if isinstance(modes, Mapping) and isinstance(drawn, Mapping):
            rows["drawn to"] = f"{modes.get('modes')} modes of real images, scale {drawn.get('scale')}"
        rows |= {name.replace("_", " "): settings.get(name) for name in SETTINGS}
        rows["versions"] = ", ".join(f"{name} {number}" for name, number in (generation.get("versions") or {}).items())
    if "method" in selection:
        target = selection.get("target")
        follows = "" if target is None else f", target {target.get('name', '')}"
        drawn = f"{selection.get('ipc')} per class, seed {selection.get('seed')}"
        evenly = f", evenly over {selection['evenly']}s" if selection.get("evenly") else ""
        rows["selection"] = f"{selection['method']}{evenly}{follows}, {drawn}"
    return {name: value for name, value in rows.items() if value not in (None, "")}


def _data_files(pool: Pool) -> list[dict[str, Any]]:
    names = [PurePath(row["file_name"]) for row in pool.rows]
    deep = ["*/**"] if any(len(name.parts) > 1 for name in names) else []
    flat = sorted({f"*{name.suffix}" for name in names if len(name.parts) == 1})
    return [{"split": "train", "path": [METADATA, *deep, *flat]}]


def _contents(pool: Pool) -> str:
    """A hash of rows and images."""
    found = hashlib.sha256(json_lines(pool.rows))
    for row in pool.rows:
        found.update(hashlib.sha256((pool.path / row["file_name"]).read_bytes()).digest())
    return found.hexdigest()[:16]


def _features(pool: Pool) -> dict[str, Any]:
    """Name and type of each column, as ``datasets`` will give them."""
    import pyarrow as pa
    from datasets import ClassLabel, Features, Image, Value

    columns = list(dict.fromkeys(name for row in pool.rows for name in row if name != "file_name"))
    known: dict[str, Any] = {}
    for name in columns:
        kind = _arrow_type(name, [row.get(name) for row in pool.rows])
        found = Features.from_arrow_schema(pa.schema([pa.field(name, kind)]))[name]
        known[name] = Value("float64") if pa.types.is_null(kind) else found
    if max(pool.class_names) < MOST_LABELS:
        known["label"] = ClassLabel(names=_label_names(pool))
    return {"image": Image(), **known}


def _arrow_type(name: str, values: Sequence[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(
            f"the column {name!r} of the metadata mixes kinds of values, which `datasets` cannot read ({error}); "
            "make them all numbers, or all text"
        ) from error


def _label_names(pool: Pool) -> list[str]:
    """A name for every label up to the highest, all different."""
    recorded = generation_of(pool.provenance).get("classes") or {}
    names = {int(label): str(name) for label, name in recorded.items()} | pool.class_names
    every = {label: names.get(label, f"LABEL_{label}") for label in range(max(names) + 1)}
    return list(distinct_names(every).values())


def _in_yaml(features: Mapping[str, Any]) -> Any:
    from datasets import DatasetInfo, Features
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    data = DatasetCardData()
    DatasetInfosDict({"default": DatasetInfo(features=Features(features))}).to_dataset_card_data(data)
    return data["dataset_info"]["features"]


def model_card(
    repo: str, parts: Sequence[Mapping[str, str]], class_names: Sequence[str], *, title: str, license: str | None = None
) -> str:
    """The card of a pipeline.

    Args:
        parts: ``name``, ``kind`` (its class) and ``parameters`` of each component.
        class_names: in the order of their labels; empty if the pipeline has none.
    """
    from huggingface_hub import ModelCardData

    names = [part["name"] for part in parts]
    data = ModelCardData(
        license=license,
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        tags=["diffusers:DifficultyGuidedPipeline", "dataset-distillation", "diffusion", "dag-diffusion"],
    )
    page = _page(
        "model_card.md.jinja",
        title=title,
        repo=repo,
        parts=[f"its {name}" for name in names],
        guide="classifier" in names,
        table=parts,
        classes=class_names,
        shown_classes=", ".join(map(_code, class_names[:LISTED_CLASSES]))
        + (", ..." if len(class_names) > LISTED_CLASSES else ""),
        example=", ".join(f'"{_text(name)}"' for name in class_names[:2]) or "0, 1",
        license=license,
    )
    return sealed(f"---\n{data.to_yaml()}\n---\n\n{page}")


def _page(template: str, **values: Any) -> str:
    environment = Environment(  # noqa: S701 - the page is Markdown; names go through the filters
        loader=PackageLoader("dag_diffusion.hub"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "code": _code, "line": lambda text: _cell(text).replace("\\|", "|")}
    title = re.sub(r"[<>&\[\]`]", "", _text(values.pop("title")))
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(title=title, **values)).rstrip() + "\n"


def _text(value: Any) -> str:
    """On one line, without what would end a string of Python."""
    return " ".join(str(value).replace("\\", "/").replace('"', "'").split())


def _cell(value: Any) -> str:
    """On one line and in one cell of a table; within backticks nothing is taken for HTML."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")


def _code(value: Any) -> str:
    return f"`{_cell(value)}`"
