"""A target as a person writes it on the command line.

reference | hill | uniform | beta:0.3,3 | quantiles:0,0.01,0.5 | 0.5 | ten numbers | FOLDER | FILE.json
0.7*reference + 0.3*hill
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from . import embedded
from .class_names import match_classes
from .pools import read_pool
from .targets import PRESETS, TargetDistribution

logger = logging.getLogger(__name__)
CURVES: dict[str, Callable[..., TargetDistribution]] = {
    "uniform": TargetDistribution.uniform,
    "beta": TargetDistribution.beta,
    "quantiles": lambda *difficulties: TargetDistribution.quantiles(difficulties),
}
WORDS = ", ".join(["reference", *PRESETS, "uniform", "beta:0.3,3", "quantiles:0,0.01,0.5", "0.5", "ten numbers"])


def target_named(
    text: str,
    class_names: Mapping[int, str],
    *,
    class_map: Mapping[str, str | int] | None = None,
    scored_by: str = "",
) -> TargetDistribution:
    """The target that a text names; see the module.

    Args:
        text: a word, numbers, a scored folder of real images, a JSON file of {class name: text}, or a sum of such.
        class_names: of the images that shall follow it, matched with those of a reference by name.
        class_map: those names to the reference's, where no rule finds them.
        scored_by: ``difficulty_by`` of the images; a warning is given if the reference was scored by something else.

    Raises:
        ValueError: it names nothing, or its reference lacks a class.
    """
    terms = [text] if text and Path(text).exists() else [term.strip() for term in text.split("+")]
    parts = [re.fullmatch(r"(?:([0-9.]+) *\* *)?(.*)", term, re.DOTALL) for term in terms]
    options = {"class_map": class_map, "scored_by": scored_by}
    targets = [_term(part[2], class_names, **options) for part in parts if part is not None]
    if len(targets) == 1:
        return targets[0]
    return TargetDistribution.mixture(targets, [float(part[1] or 1) for part in parts if part is not None])


def _term(text: str, class_names: Mapping[int, str], **options) -> TargetDistribution:
    word, _, numbers = text.partition(":")
    if text in PRESETS:
        return TargetDistribution.preset(text)
    if Path(text).suffix == ".json" and Path(text).is_file():
        return _per_class(Path(text), class_names, **options)
    if text == "reference" or (text and Path(text).exists()):
        path = None if text == "reference" else Path(text)
        return TargetDistribution.from_reference(reference_named(path, class_names, **options), name=text)
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
            f"--target {text!r} has {len(values)} numbers, but {word} takes others; see {WORDS}"
        ) from error


def _numbers(text: str, whole: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--target {whole!r} is no folder, number or preset; choose {WORDS}, or a sum such as 0.5*hill + 0.5*0.2"
        ) from error


def _per_class(path: Path, class_names: Mapping[int, str], **options) -> TargetDistribution:
    try:
        texts = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); write {{class name: target, ...}} into it") from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f'{path} must hold an object such as {{"tench": "hill", "church": "beta:0.3,3"}}')
    table = match_classes(class_names, dict(enumerate(texts)), f"the targets in {path}")
    by_label = list(texts.values())
    return TargetDistribution.per_class(
        {name: target_named(by_label[table[label]], {label: name}, **options) for label, name in class_names.items()}
    )


def reference_named(
    path: Path | None,
    class_names: Mapping[int, str],
    *,
    class_map: Mapping[str, str | int] | None = None,
    scored_by: str = "",
) -> dict[str, np.ndarray]:
    """Difficulties of real images by class: a scored folder's, or those of the embedded training images."""
    if path is None:
        return _embedded_reference(class_names)
    pool = read_pool(path)
    table = match_classes(class_names, pool.class_names, f"the reference {path}", mapping=class_map)
    difficulties, labels = pool.difficulties, pool.labels
    measured = str(pool.rows[0].get("difficulty_by") or "")
    if scored_by and measured and measured != scored_by:
        logger.warning("difficulties are %s, but those of the reference %s are %s", scored_by, path, measured)
    return {name: difficulties[labels == table[label]] for label, name in class_names.items()}


def _embedded_reference(class_names: Mapping[int, str]) -> dict[str, np.ndarray]:
    known = dict(enumerate(embedded.CLASS_NAMES))
    try:
        table = match_classes(class_names, known, "the embedded reference (Fashion-MNIST)")
    except ValueError as error:
        raise ValueError(
            f"{error}; for other classes name a preset such as hill, or a scored folder of real images"
        ) from error
    reference = embedded.training_difficulties(known)
    return {name: reference[known[table[label]]] for label, name in class_names.items()}
