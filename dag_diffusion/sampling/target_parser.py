"""A target from the shortest way to say it, in Python as on the command line.

    0.5   "hill"   "reference"   "beta:0.3,3"   "0.7*reference + 0.3*hill"   Path("scored_folder")   {"tench": "hill"}

A text is a sum of terms, each a word with a weight or without.  Words are

    reference | hill | uniform | beta:0.3,3 | quantiles:0,0.01,0.5 | 0.5 | ten numbers | FOLDER | FILE.jsonl | FILE.json
    auto | auto:FOLDER

``auto`` moves the difficulties of real images, the reference's or a scored folder's, from easy to hard with the size of
the set.  Known words and numbers win over folders, whatever lies where the command is run; ./0.5 is the folder called
0.5.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from dag_diffusion.data.class_names import distinct_names, match_classes
from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.rows import METADATA

from .auto_target import AutoTarget
from .references import reference_named
from .targets import PRESETS, Curve, Target, TargetDistribution

logger = logging.getLogger(__name__)
CURVES: dict[str, Callable[..., TargetDistribution]] = {
    "uniform": TargetDistribution.uniform,
    "beta": TargetDistribution.beta,
    "quantiles": lambda *difficulties: TargetDistribution.quantiles(difficulties),
}
AUTO = "auto"
WORDS = ", ".join(["reference", *PRESETS, AUTO, "uniform", "beta:0.3,3", "quantiles:0,0.01,0.5", "0.5", "ten numbers"])
REFERENCE_FILES = (".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class _Images:
    """The images that will follow the target; see ``as_target``."""

    class_names: Mapping[int, str] | None
    class_map: Mapping[str, str | int]
    scored_by: str | None
    reference: TargetDistribution | None


def as_target(
    target: Target,
    class_names: Mapping[int, str] | None = None,
    *,
    class_map: Mapping[str, str | int] | None = None,
    scored_by: str | None = None,
    reference: TargetDistribution | None = None,
) -> TargetDistribution:
    """The target that is meant.

    Args:
        target: one of

            - a number in [0, 1], the difficulty of every image;
            - a text, see the module;
            - the path of a scored folder or dataset of real images, of the JSON lines that ``score_and_record`` wrote
              of one, or of a JSON file of {class name: text};
            - {class name: difficulties of real images}, or {class name: target};
            - a ``TargetDistribution``, which is returned as it is.
        class_names: of the images that will follow it, matched with those of real images by name; default: the classes
            that the real images have.
        class_map: those names to the names of the real images' classes, where no rule finds them.
        scored_by: ``difficulty_by`` of the images; a warning is given if the real images were scored by something else.
        reference: what the word ``reference`` means; default: the embedded real images.

    Raises:
        ValueError: it names nothing, or the real images lack a class.
        TypeError: it is something else.

    Examples:
        >>> as_target(0.5).name
        '0.5'
        >>> as_target("0.7*beta:0.3,3 + 0.3*hill").name
        '0.7*beta(0.3, 3) + 0.3*hill'
        >>> as_target({"Bag": [0.1, 0.2], "Coat": "hill"}).name
        'per class'
    """
    return _read(
        target,
        _Images(class_names=class_names, class_map=class_map or {}, scored_by=scored_by, reference=reference),
    )


def _read(target: Target, images: _Images) -> TargetDistribution:
    if isinstance(target, TargetDistribution):
        return target
    if getattr(target, "shape", None) == () and hasattr(target, "item"):  # a number in a tensor or array
        target = target.item()
    if isinstance(target, str):
        return _from_text(target, images)
    if isinstance(target, os.PathLike):
        return _from_path(Path(target), images)
    if isinstance(target, Mapping):
        return _from_mapping(target, images)
    if isinstance(target, Real) and not isinstance(target, bool):
        return TargetDistribution.constant(float(target))
    raise TypeError(
        f"a target cannot be made from {type(target).__name__}; give a TargetDistribution, a number in [0, 1], the "
        f"name of a preset ({', '.join(PRESETS)}), another text such as 'reference', or {{class name: difficulties}}"
    )


def _from_text(text: str, images: _Images) -> TargetDistribution:
    terms = list(terms_of(text))
    if os.path.exists(text) and not _is_plain(terms):
        terms = [(1.0, text.strip())]  # a folder may be called like a sum
    for weight, word in terms:
        if not 0 < weight < math.inf:
            raise ValueError(
                f"the weight of {word!r} in the target {text!r} is {weight:g}; give a positive weight, such as "
                "0.3 in 0.7*reference + 0.3*hill"
            )
    targets = [_from_word(word, images) for _, word in terms]
    if len(targets) == 1:
        return targets[0]
    return TargetDistribution.mixture(targets, [weight for weight, _ in terms])


def terms_of(text: str) -> Iterator[tuple[float, str]]:
    """Weight and word of each term of a sum such as ``0.7*reference + hill``; without a weight it is 1."""
    start = 0
    for end in [*_plus_signs(text), len(text)]:
        weight, star, word = text[start:end].partition("*")
        try:
            yield (float(weight), word.strip()) if star else (1.0, weight.strip())
        except ValueError:  # the star belongs to the word
            yield 1.0, text[start:end].strip()
        start = end + 1


def _plus_signs(text: str) -> Iterator[int]:
    """Where the terms of a sum end; the sign of an exponent, as in 1e+0, is none of these."""
    for at, sign in enumerate(text):
        exponent = at >= 2 and text[at - 1] in "eE" and text[at - 2] in ".0123456789"
        if sign == "+" and not exponent:
            yield at


def _from_word(word: str, images: _Images) -> TargetDistribution:
    if is_plain_word(word):  # whatever lies in this folder, such as a pool that is called after its target
        _tell_of_shadowed(word)
    if word.partition(":")[0] == AUTO:
        return _auto(word, images)
    if word == "reference" and images.reference is not None:
        return images.reference
    if word == "reference":
        difficulties = reference_named(None, images.class_names, scored_by=images.scored_by)
        return TargetDistribution.from_reference(difficulties, text=word)
    is_path = not is_plain_word(word) and (os.path.isdir(word) or word.endswith((*REFERENCE_FILES, ".json")))
    return _from_path(Path(word), images) if is_path else _from_plain_word(word)


def _auto(word: str, images: _Images) -> TargetDistribution:
    """``auto``, or ``auto:FOLDER`` of real images."""
    return AutoTarget(_from_word(word.partition(":")[2] or "reference", images), text=word)


def is_plain_word(word: str) -> bool:
    """Whether a word means the same wherever it is said: a preset, a curve, numbers or ``reference``; no folder."""
    if word == "reference" or word in PRESETS or word == AUTO:
        return True
    curve, _, numbers = word.partition(":")
    values = numbers if curve in CURVES else word
    try:
        return (curve in CURVES and not values) or all(math.isfinite(float(part)) for part in values.split(","))
    except ValueError:
        return False


def _is_plain(terms: Iterable[tuple[float, str]]) -> bool:
    return all(is_plain_word(word) for _, word in terms)


@cache
def _tell_of_shadowed(word: str) -> None:
    if os.path.isfile(os.path.join(word, METADATA)):
        logger.warning(
            "the target %s is no folder, though there is one of this name, which is meant by ./%s", word, word
        )


def _from_plain_word(word: str) -> TargetDistribution:
    """The target of a word that needs no real images: a preset, a curve, or numbers."""
    if word in PRESETS:
        return TargetDistribution.preset(word)
    curve, _, numbers = word.partition(":")
    if curve in CURVES:
        return _curve(curve, numbers, word)
    values = _numbers(word, word)
    if len(values) == 1:
        return TargetDistribution.constant(values[0])
    return TargetDistribution.histogram(values, name=word)


def _curve(name: str, numbers: str, word: str) -> TargetDistribution:
    values = _numbers(numbers, word) if numbers else []
    try:
        return CURVES[name](*values)
    except TypeError as error:
        raise ValueError(
            f"the target {word!r} has {len(values)} numbers, but {name} takes others; see {WORDS}"
        ) from error


def _numbers(text: str, word: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        if Path(word).is_file():
            raise ValueError(
                f"the target {word!r} is a file of another kind; give a .jsonl file with difficulties of images, or a "
                '.json file {class: target}, such as {"tench": "hill", "church": 0.3}'
            ) from error
        raise ValueError(
            f"the target {word!r} is no folder, number or preset; choose {WORDS}, or a sum such as 0.5*hill + 0.5*0.2"
        ) from error


def _from_path(path: Path, images: _Images) -> TargetDistribution:
    if path.suffix == ".json":
        return _from_json(path, images)
    difficulties = reference_named(path, images.class_names, class_map=images.class_map, scored_by=images.scored_by)
    text = f"./{path}" if _is_plain(terms_of(str(path))) else str(path)
    return TargetDistribution.from_reference(difficulties, name=str(path), text=text)


def _from_json(path: Path, images: _Images) -> TargetDistribution:
    targets = read_json_object(path)
    wrong = [name for name, target in targets.items() if not _is_written(target)]
    if wrong or not targets:
        what = f"says {targets[wrong[0]]!r:.60} of {wrong[0]!r}" if wrong else "names no class"
        raise ValueError(
            f"{path} {what}; it must say a target of each class, by text or number and not by another JSON file, such "
            'as {"tench": "hill", "church": 0.3}'
        )
    return _per_class(targets, f"the file of targets {path}", images, text=str(path))


def _is_written(target: Any) -> bool:
    """Whether a JSON file may say this target: a difficulty, or a text that leads to no further JSON file."""
    if isinstance(target, str):
        return not any(word.endswith(".json") for _, word in terms_of(target))
    return isinstance(target, Real) and not isinstance(target, bool)


def _from_mapping(targets: Mapping[str, Any], images: _Images) -> TargetDistribution:
    if any(_is_whole(one) for one in targets.values()):
        return _per_class(targets, "the target", images)
    wanted = images.class_names or {}
    names, asked = distinct_names(wanted), list(targets)
    if not set(names.values()) <= set(asked):
        table = match_classes(wanted, dict(enumerate(asked)), "the target", mapping=images.class_map or {}, places=True)
        targets = {name: targets[asked[table[label]]] for label, name in names.items()}
    return TargetDistribution.from_reference(targets)


def _is_whole(target: Any) -> bool:
    """Whether it says a target; else it is the difficulties of real images of one class."""
    return isinstance(target, TargetDistribution | str | os.PathLike | Real)


def _per_class(targets: Mapping[str, Any], owner: str, images: _Images, text: str | None = None) -> TargetDistribution:
    names = dict(enumerate(targets)) if images.class_names is None else images.class_names
    asked = list(targets.values())
    shared = all(map(_is_whole, asked))  # else a second crane would follow the real images of the first
    table = match_classes(names, dict(enumerate(targets)), owner, places=True, shared=shared)
    groups: dict[str | int, dict[int, str]] = {}  # so that real images are read once for all classes that follow them
    for label, name in distinct_names(names).items():
        said = asked[table[label]]
        groups.setdefault(said if isinstance(said, str) else table[label], {})[label] = name
    made: dict[str, TargetDistribution] = {}
    for key, group in groups.items():
        one: Any = key if isinstance(key, str) else asked[key]
        mapped = {name: images.class_map[names[i]] for i, name in group.items() if names[i] in images.class_map}
        own = replace(images, class_names=group, class_map=mapped)
        target = _read(one, own) if _is_whole(one) else TargetDistribution.from_reference(one)
        made |= dict.fromkeys(group.values(), target)
    return TargetDistribution.per_class(made, text=text)


def recorded_target(summary: Mapping[str, Any]) -> TargetDistribution:
    """The target that ``TargetDistribution.summary`` recorded.  No file is read, whatever the record says.

    Raises:
        ValueError: the record is that of no target, or of real images, whose difficulties it does not repeat.
    """
    try:
        return _recorded(summary)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"the record of a target is damaged: {str(summary)[:60]!r}; name the target anew, or give its summary()"
        ) from error


def _recorded(summary: Mapping[str, Any]) -> TargetDistribution:
    if "reference" in summary:
        raise ValueError(
            f"the record of the target {summary.get('name')!r} does not repeat how difficult its real images are; name "
            f"the target anew: as_target({summary.get('text') or 'FOLDER'!r})"
        )
    if "auto" in summary:
        rule, moved = summary["auto"], {name: value for name, value in summary.items() if name != "auto"}
        return AutoTarget(_recorded(moved | rule["of"]), text=summary["text"], ipc=rule.get("ipc"))
    if "parts" in summary:
        return TargetDistribution.mixture([_recorded(part) for part in summary["parts"]], summary["weights"])
    if "classes" in summary:
        targets = {name: _recorded(one) for name, one in summary["classes"].items()}
        return TargetDistribution.per_class(targets, text=summary.get("text"))
    if summary.get("text") is not None:
        return _from_plain_word(summary["text"])
    if "shares" in summary:
        return TargetDistribution.histogram(summary["shares"], name=str(summary["name"]))
    return _recorded_curve(summary)


def _recorded_curve(summary: Mapping[str, Any]) -> TargetDistribution:
    levels, knots = (np.array(summary[name], np.float64) for name in ("levels", "difficulties"))
    usable = levels.ndim == 1 and levels.shape == knots.shape and len(levels) > 0
    if not (usable and ((levels >= 0) & (levels <= 1) & (knots >= 0) & (knots <= 1)).all()):
        raise ValueError(
            f"the record of the target {summary.get('name')!r} has no difficulties in [0, 1]; name the target anew"
        )
    return Curve(levels, knots, str(summary["name"]))
