"""A folder as it is found made into a pool that can be trained on, with a record of what was left out and why.

    read -> classes chosen -> all decoded once -> unreadable, vanished and twins left out -> small classes -> capped

Vanished is a drawing of which nothing is seen on the background, such as a black one on black.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dag_diffusion.data.canvas import Canvas, Fit, fit_or_usual
from dag_diffusion.data.class_names import classes_named, labels_typed, listed
from dag_diffusion.data.files import write_json
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.processes import is_main_process
from dag_diffusion.progress import Progress

from .duplicates import TwinRule, as_link_rule, as_twin_rule, find_twins, rows_of_equal_pixels
from .inspection import Look, looks_of
from .leaving_out import LeftOut, sentences
from .splitting import Split, split_pool

if TYPE_CHECKING:
    from datasets import Dataset


logger = logging.getLogger(__name__)
LONG = 2.0  # aspect from which on a crop in the middle loses half of an image
MOST_LONG = 0.1  # of all images, of which more should not lose so much
CACHE, TESTS, RECORD = ".looks.json", ".looks-of-tests{}.json", "images.json"  # in the output folder of a command
LOOKS = ".looks*.json"  # the first two


@dataclass(frozen=True)
class Prepared:
    """Images that can be trained on.

    Attributes:
        pool: with the labels that the source gives its classes, and the canvas that all of them lie on.
        record: what was left out and why, as JSON has it.
        twins: groups of rows of ``pool`` that show the same picture; none where they were left out.
    """

    pool: Pool
    record: dict[str, Any]
    twins: list[list[int]]

    def split(self, held_out: float = 0.1, *, seed: int = 0, lone: Literal["refuse", "train"] = "refuse") -> Split:
        """Two parts without a twin of each other's images; see ``splitting.split_pool``."""
        return split_pool(self.pool, held_out, seed=seed, twins=self.twins, lone=lone)

    def save(self, folder: Path) -> None:
        """Write the record to ``images.json`` in a folder."""
        write_json(folder / RECORD, self.record)


def prepare(
    source: "str | Path | Dataset | Pool",
    *,
    classes: str | Sequence[str | int] | None = None,
    background: str = "white",
    fit: str | None = None,
    trim: bool = False,
    most: int | None = None,
    least: int = 1,
    twins: TwinRule = "leave_out",
    links: str = "leave_out",
    skip_unreadable: bool = False,
    apart_from: Pool | Sequence[Pool] = (),
    seed: int = 0,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Read images of one's own, look at each of them once, and leave out what no model should be trained on.

    Args:
        source: whatever ``read_pool`` reads, or a pool.
        classes: names or labels of those to take, in a list or separated by semicolons; None takes all.
        background: colour behind what is transparent, see ``Canvas``.
        fit: ``pad``, ``crop`` or ``stretch`` to a square; None pads where most images are transparent, so that they
            have a background, or where more than a tenth are longer than twice their width, and else crops.
        trim: cut off transparent margins, see ``Canvas``; None then pads.
        most: images of each class, drawn at random by ``seed``; None keeps all.
        least: classes that have fewer images in the end are left out.
        twins: ``leave_out`` all images of equal pixels in several classes and all but one of those within a class,
            ``refuse`` those across classes, or ``keep`` all.
        links: of a picture that is linked to from another class, ``leave_out`` both, since it is of both, or keep the
            ``real`` file with its class.
        skip_unreadable: leave out images that cannot be read, instead of naming them in an error.
        apart_from: images that are tested on, or several pools of such; those of equal pixels are left out here.
        cache: folder in which looks are kept, such as the output of a command, so that nothing is decoded twice.
        progress: called with stage, done and total.

    Under ``accelerate launch`` every process has to call it, and gets the same.

    Raises:
        UnreadableImageError: images cannot be read; how many, and the first three.
        ValueError: an option is none, a class is unknown, twins are refused, or a class or everything is left out.
    """
    as_twin_rule(twins)
    of_links = as_link_rule(links)
    if least < 1:
        raise ValueError(f"least is {least}, the images that a class needs to be kept; use 1 or more")
    if most is not None and most < 1:
        raise ValueError(f"most is {most}, the images of each class to be kept; use 1 or more, or leave it out for all")
    canvas = Canvas(background, fit_or_usual(fit, trim=trim), trim)
    read = source if isinstance(source, Pool) else read_pool(source)
    pool = replace(_of_classes(read, classes), canvas=canvas)
    looks = looks_of(pool, None if cache is None else Path(cache) / CACHE, progress)
    if trim and is_main_process() and not any(look.transparent for look in looks):
        logger.warning("no image of %s has anything transparent, so that trim=True changes none", read.path)
    fitted, why = canvas.fit, "as asked" if fit else "what is trimmed is padded"
    if fit is None and not trim:
        fitted, why = _usual_fit(looks)
    pool = replace(pool, canvas=replace(canvas, fit=fitted))
    left = LeftOut(pool, looks)
    left.unreadable(skip=skip_unreadable)
    left.vanished()
    left.shared(_tested_on(pool, looks, [apart_from] if isinstance(apart_from, Pool) else apart_from, cache, progress))
    found = find_twins(pool, looks)
    left.links(found, "leave_out" if twins == "keep" else of_links)
    left.twins(found, twins)
    left.small_classes(least, chosen=classes is not None)
    if most is not None:
        left.above(most, seed)
    settings = {"most": most, "least": least, "twins": twins, "linked": of_links, "seed": seed}
    record = {
        "source": str(read.listing or read.path),
        "fit_because": why,
        **pool.canvas.as_fields(),
        **settings,
        **left.record(found),
    }
    if is_main_process():
        for sentence in sentences(record):
            logger.warning("%s", sentence)
    places = {row: place for place, row in enumerate(left.kept)}
    groups = [[places[row] for row in group if row in places] for group in found.groups]
    return Prepared(pool.select(left.kept), record, [group for group in groups if len(group) > 1])


def _tested_on(
    pool: Pool, looks: Sequence[Look], tests: Sequence[Pool], cache: str | Path | None, progress: Progress | None
) -> list[int]:
    found = set[int]()
    for number, test in enumerate(tests):
        test = replace(test, canvas=pool.canvas)
        kept = None if cache is None else Path(cache) / TESTS.format(f"-{number + 1}" if number else "")
        found.update(rows_of_equal_pixels(pool, looks, test, looks_of(test, kept, progress)))
    return sorted(found)


def _of_classes(pool: Pool, classes: str | Sequence[str | int] | None) -> Pool:
    if classes is None:
        return pool
    wanted = set(labels_of(classes, pool.class_names, str(pool.path)))
    return pool.select([row for row, label in enumerate(pool.labels.tolist()) if label in wanted])


def labels_of(classes: str | Sequence[str | int], known: Mapping[int, str], owner: str) -> list[int]:
    """Labels of classes as ``prepare`` takes them; in a list, text is a label only where no class is called so.

    Raises:
        ValueError: one names no class or several, or is no label.
    """
    if isinstance(classes, str):
        labels = labels_typed(classes, known, owner)
    else:
        by_name = {name: label for label, name in known.items()}
        labels = [label for one in classes for label in _labels_of_one(one, by_name, known, owner)]
    if unknown := sorted(set(labels) - set(known)):
        raise ValueError(f"{owner} has no label {unknown[0]}; it has the classes {listed(known.values())}")
    return labels


def _labels_of_one(one: str | int, by_name: Mapping[str, int], known: Mapping[int, str], owner: str) -> list[int]:
    if not isinstance(one, str):
        return [int(one)]
    if one in by_name:
        return [by_name[one]]
    try:
        return classes_named([one], known, owner)[0]
    except ValueError:
        if one.isdecimal() and int(one) in known:
            return [int(one)]
        raise


def _usual_fit(looks: Sequence[Look]) -> tuple[Fit, str]:
    """How images are fitted unasked, and why, as a sentence."""
    seen = [look for look in looks if not look.problem]
    see_through, long = sum(look.transparent for look in seen), sum(look.aspect > LONG for look in seen)
    if 2 * see_through > len(seen):
        return "pad", f"{see_through} of {len(seen)} images are transparent, so that bars are of their background"
    if long > MOST_LONG * len(seen):
        return "pad", f"{long} of {len(seen)} images are longer than twice their width and would lose half by a crop"
    return "crop", f"{long} of {len(seen)} images are longer than twice their width"
