"""A target from the shortest way to say it: a text, a number, difficulties of real images, or a target itself.

reference | hill | uniform | beta:0.3,3 | quantiles:0,0.01,0.5 | 0.5 | ten numbers | FOLDER | FILE.jsonl | FILE.json
0.7*reference + 0.3*hill
"""

import logging
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path

import numpy as np

from dag_diffusion import embedded
from dag_diffusion.data.class_names import distinct_names, match_classes
from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.data.rows import read_rows

from .targets import PRESETS, Target, TargetDistribution

logger = logging.getLogger(__name__)
CURVES: dict[str, Callable[..., TargetDistribution]] = {
    "uniform": TargetDistribution.uniform,
    "beta": TargetDistribution.beta,
    "quantiles": lambda *difficulties: TargetDistribution.quantiles(difficulties),
}
WORDS = ", ".join(["reference", *PRESETS, "uniform", "beta:0.3,3", "quantiles:0,0.01,0.5", "0.5", "ten numbers"])


def as_target(target: Target, class_names: Mapping[int, str]) -> TargetDistribution:
    """A target from whatever says it.

    Args:
        target: itself, a text for ``target_named``, one difficulty, or {class name: difficulties of real images}.
        class_names: of the images that are to follow it.

    Raises:
        TypeError: it is something else.
        ValueError: as ``target_named``.
    """
    if isinstance(target, TargetDistribution):
        return target
    if isinstance(target, str | Path):
        return target_named(str(target), class_names)
    if isinstance(target, Mapping):
        return TargetDistribution.from_reference(target)
    if isinstance(target, Real) and not isinstance(target, bool):
        return TargetDistribution.constant(float(target))
    raise TypeError(
        f"a target cannot be made from {type(target).__name__}; give a TargetDistribution, the name of a preset "
        f"({', '.join(PRESETS)}), a number in [0, 1], {{class name: difficulties}} of real images, "
        f"or another text: {WORDS}"
    )


def target_named(
    text: str,
    class_names: Mapping[int, str],
    *,
    class_map: Mapping[str, str | int] | None = None,
    scored_by: str = "",
    reference: Path | None = None,
) -> TargetDistribution:
    """The target that a text names; see the module.

    Args:
        text: a word, numbers, a scored folder of real images or the JSON lines that ``score`` wrote of one, a JSON file
            of {class name: text}, or a sum of such.
        class_names: of the images that shall follow it, matched with those of a reference by name.
        class_map: those names to the reference's, where no rule finds them.
        reference: scored real images that the word ``reference`` means; by default the embedded ones.
        scored_by: ``difficulty_by`` of the images; a warning is given if the reference was scored by something else.

    Raises:
        ValueError: it names nothing, or its reference lacks a class.
    """
    terms = [text] if os.path.exists(text) else re.split(r"(?<![0-9.][eE])\+", text)  # but not in 1e+0
    parts = [re.fullmatch(r"(?:([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?) *\* *)?(.*)", t.strip(), re.DOTALL) for t in terms]
    found = [part for part in parts if part is not None]
    named = partial(_term, class_names=class_names, class_map=class_map, scored_by=scored_by, reference=reference)
    targets = [named(part[2]) for part in found]
    if len(targets) == 1:
        return targets[0]
    return TargetDistribution.mixture(targets, [float(part[1] or 1) for part in found])


def _term(
    text: str,
    *,
    class_names: Mapping[int, str],
    class_map: Mapping[str, str | int] | None,
    scored_by: str,
    reference: Path | None,
) -> TargetDistribution:
    word, _, numbers = text.partition(":")
    if text in PRESETS:
        return TargetDistribution.preset(text)
    if text == "reference" or os.path.isdir(text) or text.endswith((".jsonl", ".parquet")):
        path = reference if text == "reference" else Path(text)
        known = reference_named(path, class_names, class_map=class_map, scored_by=scored_by)
        return TargetDistribution.from_reference(known, name=text, text=text if path is None else str(path))
    if text.endswith(".json"):
        return _per_class(Path(text), class_names, class_map=class_map, scored_by=scored_by)
    if word in CURVES:
        return _curve(word, numbers, text)
    values = _numbers(text, text)
    if len(values) == 1:
        return TargetDistribution.constant(values[0])
    return TargetDistribution.histogram(values, name=text)


def _curve(word: str, numbers: str, text: str) -> TargetDistribution:
    values = _numbers(numbers, text) if numbers else []
    try:
        return CURVES[word](*values)
    except TypeError as error:
        raise ValueError(
            f"the target {text!r} has {len(values)} numbers, but {word} takes others; see {WORDS}"
        ) from error


def _numbers(text: str, whole: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"the target {whole!r} is no folder, number or preset; choose {WORDS}, or a sum such as 0.5*hill + 0.5*0.2"
        ) from error


def _per_class(
    path: Path, class_names: Mapping[int, str], *, class_map: Mapping[str, str | int] | None, scored_by: str
) -> TargetDistribution:
    texts, class_map = read_json_object(path), class_map or {}
    if not texts or not all(isinstance(t, str) and not re.search(r"\.json(?!l)", t) for t in texts.values()):
        raise ValueError(
            f'{path} must say a target of each class, such as {{"tench": "hill", "church": "beta:0.3,3"}}, no JSON file'
        )
    table = match_classes(class_names, dict(enumerate(texts)), f"the file of targets {path}")
    asked, names = list(texts.values()), distinct_names(class_names)
    by_text: dict[str, dict[int, str]] = {}  # so that a reference is read once for all classes that follow it
    for label, name in names.items():
        by_text.setdefault(asked[table[label]], {})[label] = name
    targets: dict[str, TargetDistribution] = {}
    for text, group in by_text.items():
        own = {name: class_names[label] for label, name in group.items()}
        group_map = {name: class_map[written] for name, written in own.items() if written in class_map}
        target = target_named(text, group, class_map=group_map, scored_by=scored_by)
        targets |= dict.fromkeys(group.values(), target)
    return TargetDistribution.per_class(targets)


def reference_named(
    path: Path | None,
    class_names: Mapping[int, str],
    *,
    class_map: Mapping[str, str | int] | None = None,
    scored_by: str = "",
) -> dict[str, np.ndarray]:
    """Difficulties of real images by class: of a scored folder or dataset, of a file of scores, or the embedded ones.

    A class is called by its name in ``class_names``, or by one that tells it apart if two have the same.
    """
    if path is None:
        return _embedded_reference(class_names, scored_by)
    pool = Pool(path, read_rows(path)) if path.suffix == ".jsonl" else read_pool(path)
    table = match_classes(class_names, pool.class_names, f"the reference {path}", mapping=class_map)
    difficulties, labels = pool.difficulties, pool.labels
    _warn_of_other_scores(str(path), {str(row.get("difficulty_by") or "") for row in pool.rows}, scored_by)
    return {name: difficulties[labels == table[label]] for label, name in distinct_names(class_names).items()}


def _warn_of_other_scores(reference: str, found: set[str], scored_by: str) -> None:
    others = found - {scored_by, ""}
    if scored_by and others:
        logger.warning(
            "difficulties are %s, but those of the reference %s are %s: other scales",
            scored_by,
            reference,
            "; ".join(sorted(others)),
        )


def _embedded_reference(class_names: Mapping[int, str], scored_by: str) -> dict[str, np.ndarray]:
    known = dict(enumerate(embedded.CLASS_NAMES))
    try:
        table = match_classes(class_names, known, "the embedded reference (Fashion-MNIST)")
    except ValueError as error:
        raise ValueError(
            f"{error}; for other classes name a preset such as hill, or a scored folder of real images"
        ) from error
    _warn_of_other_scores("(embedded)", {"error_probability by embedded guide"}, scored_by)
    reference = embedded.training_difficulties(known)
    return {name: reference[known[table[label]]] for label, name in distinct_names(class_names).items()}
