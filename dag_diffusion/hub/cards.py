"""Cards: the README.md of a shared repository, with the YAML by which the Hub and ``load_dataset`` know what is in it.

    card = YAML + page + seal

It takes the place of the short card that ``data.dataset_cards`` writes beside the images, and has its ``configs``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dag_diffusion.data.dataset_cards import configs_of, contents_of, features_of, sealed
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.provenance import (
    GenerationRecord,
    SelectionRecord,
    generation_of,
    measured_among,
    real_images_of,
    selection_of,
)
from dag_diffusion.evaluation.soft_labels import SOFT_LABELS, VIEW_LABELS, LabelSource
from dag_diffusion.generation.repairing.faults import recorded_faults
from dag_diffusion.reporting.recipes import groups_text
from dag_diffusion.reporting.reproduction import commands_of

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
SETTINGS = ("num_inference_steps", "guidance_scale", "seed")
LISTED_CLASSES = 20  # names in the card of a pipeline
FAULTY = {"empty": "empty", "duplicate": "duplicates", "near": "near copies", "wrong": "of another class"}
COLUMNS = {
    "image": "the image",
    "label": "number of its class",
    "class_name": "name of its class",
    "difficulty": "measured, 0 (easy) to 1 (hard)",
    "target_difficulty": "what it was steered to, if it was",
    "seed": "random seed of its noise",
    "difficulty_by": "measure and classifiers",
    "score_key": "hash of image and classifiers, by which a score is known to be up to date",
    "correct": "whether these find no other class as probable as its own",
    "source": "the image of the pool that it was",
    "bin": "bin of the difficulty scale, for which it was chosen",
    "rank": "order in which it was chosen within its class",
    "mode": "the cluster of real images that it was drawn to",
    "group": "number of the set, among those of its class, that it was made in",
    "redrawn": "how often it was drawn again, each time with another seed",
    "fault": "what was still wrong with it when it was given up",
}


def dataset_card(
    pool: Pool,
    repo: str,
    *,
    title: str,
    license: str | None = None,
    figures: Sequence[str] = (),
    labels: Sequence[LabelSource] = (),
) -> str:
    """The card of a pool or distilled set.

    Args:
        pool: as it will be shared, local paths taken out.
        repo: its name on the Hub, for the code that loads it.
        license: identifier such as ``cc-by-4.0``; None: not stated.
        figures: files of ``difficulty.webp`` and ``examples.webp`` that go along.
        labels: whose the soft labels are, if there are some.
    """
    from huggingface_hub import DatasetCardData

    generation, selection = generation_of(pool.provenance), selection_of(pool.provenance)
    columns = [feature["name"] for feature in features_of(pool.rows, pool.provenance)]
    own = {"annotations_creators": ["machine-generated"]} if generation else {}
    data = DatasetCardData(
        license=license,
        task_categories=["image-classification"],
        size_categories=[next((name for most, name in SIZES if len(pool) < most), "1M<n<10M")],
        pretty_name=title,
        tags=["dataset-distillation", *(["synthetic", "diffusion"] if generation else []), "dag-diffusion"],
        configs=configs_of(pool.rows, pool.provenance, contents_of(pool.rows, pool.path)),
        **own,
    )
    page = _page(
        "dataset_card.md.jinja",
        title=title,
        repo=repo,
        folder=repo.rpartition("/")[2],
        facts=[*_facts(pool), *_faults(pool)],
        generated=bool(generation),
        selection=selection,
        figures=figures,
        columns={name: COLUMNS.get(name, "as its maker recorded it") for name in columns},
        soft_labels=[
            {
                "file": SOFT_LABELS if source.views is None else VIEW_LABELS,
                "told": source.told,
                "teacher": source.teacher.name,
                "digest": source.teacher.digest,
                "skill": source.teacher.skill or "accuracy not measured",
                "sizes": f"{source.label_bytes / 1000:,.1f} kB beside {source.image_bytes / 1000:,.1f} kB of images",
            }
            for source in labels
        ],
        made=_made(generation, selection) | _measured(pool) | _real(pool),
        commands=commands_of(pool.provenance),
        license=license,
    )
    return sealed(f"---\n{data.to_yaml()}\n---\n\n{page}")


def _facts(pool: Pool) -> list[str]:
    counts = sorted({int((pool.labels == label).sum()) for label in pool.class_names})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [f"{len(pool):,} images", f"{len(pool.class_names):,} classes", f"{each} images per class"]


def _faults(pool: Pool) -> list[str]:
    """How many images have which fault, of those that the record says were looked for."""
    found = recorded_faults(pool.provenance)
    return [f"{found[kind]:,} {words}" for kind, words in FAULTY.items() if kind in found]


def _made(generation: GenerationRecord, selection: SelectionRecord) -> dict[str, Any]:
    settings, rows = generation.get("settings") or {}, {}
    if generation:
        rows = {"pipeline": generation.get("pipeline"), "guide": generation.get("guide")}
        target, modes, drawn = (settings.get(name) for name in ("target", "modes", "mode_guidance"))
        unsteered = "no difficulty" if modes else "nothing: unguided"
        rows["steered to"] = unsteered if target is None else (target.get("text") or "TARGET")
        if isinstance(modes, Mapping) and isinstance(drawn, Mapping):
            scale = drawn.get("scale")  # of a pipeline that tells no number of steps there is none
            rows["drawn to"] = f"{modes.get('modes')} modes of real images" + (f", scale {scale:.2g}" if scale else "")
        if (away := settings.get("autoguidance_scale") or 1) > 1:
            rows["drawn away from"] = f"{generation.get('weak') or 'its weak denoiser'}, scale {away}"
        rows["made in groups"] = groups_text(settings)
        rows |= {name.replace("_", " "): settings.get(name) for name in SETTINGS}
        rows["versions"] = ", ".join(f"{name} {number}" for name, number in (generation.get("versions") or {}).items())
    if "method" in selection:
        target = selection.get("target")
        follows = "" if target is None else f", target {target.get('name', '')}"
        drawn = f"{selection.get('ipc')} per class, seed {selection.get('seed')}"
        evenly = f", evenly over {selection['evenly']}s" if selection.get("evenly") else ""
        rounds = f", in {selection['rounds']} rounds" if "rounds" in selection else ""
        rows["selection"] = f"{selection['method']}{evenly}{rounds}{follows}, {drawn}"
    return {name: value for name, value in rows.items() if value not in (None, "")}


def _measured(pool: Pool) -> dict[str, str]:
    """What difficulty is measured among, where it is not all classes of the guide."""
    return {"difficulty": f"measured among {among} alone"} if (among := measured_among(pool.provenance)) else {}


def _real(pool: Pool) -> dict[str, str]:
    """The real images behind a set, if its record says."""
    said = real_images_of(pool.provenance)
    return {"real images": said} if said else {}


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
