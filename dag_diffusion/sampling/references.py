"""Difficulties of real images by class, for a target to follow: of a scored folder, or the embedded ones."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from dag_diffusion import embedded
from dag_diffusion.data.class_names import distinct_names, listed, match_classes
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.data.provenance import generation_of, measure_text, measured_among
from dag_diffusion.data.rows import read_rows, require_distinct_classes

logger = logging.getLogger(__name__)
EMBEDDED_SCORES = "error_probability by embedded guide"  # ``difficulty_by`` of the embedded reference


def reference_named(
    path: Path | None,
    class_names: Mapping[int, str] | None = None,
    *,
    class_map: Mapping[str, str | int] | None = None,
    scored_by: str | None = None,
) -> dict[str, np.ndarray]:
    """Difficulties of real images by class: of a scored folder or dataset, of a file of scores, or the embedded ones.

    Args:
        path: a scored folder or dataset, or the JSON lines that ``score_and_record`` wrote of one; None for the
            embedded reference, which has the classes of Fashion-MNIST.
        class_names: of the images that will follow it, matched with those of the reference by name; default: all
            classes of the reference.
        class_map: those names to the reference's, where no rule finds them.
        scored_by: ``difficulty_by`` of the images; a warning is given if the reference was scored by something else.

    Returns:
        Class name to ``(n,)`` difficulties.  Classes of the same name are told apart as by ``distinct_names``.

    Raises:
        ValueError: the reference lacks a class, or no image of one has a difficulty; single images without are left
            out, with a warning.
    """
    if path is None:
        return _embedded_reference(class_names, scored_by)
    if path.suffix == ".jsonl":
        pool = Pool(path, read_rows(path))
        require_distinct_classes(pool.rows, path)
    else:
        pool = read_pool(path)
    names = pool.class_names if class_names is None else class_names
    table = match_classes(names, pool.class_names, f"the reference {path}", mapping=class_map or {}, places=True)
    _warn_of_other_scores(str(path), {str(row.get("difficulty_by") or "") for row in pool.rows}, scored_by)
    return known_by_class(pool, {name: table[label] for label, name in distinct_names(names).items()})


def known_by_class(pool: Pool, labels: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Difficulties ``(n,)`` of some classes, whose labels are given by name, without images that have none.

    Raises:
        ValueError: no image of a class has one.
    """
    own = {name: np.flatnonzero(pool.labels == label) for name, label in labels.items()}
    found = {name: pool.known_difficulties[rows] for name, rows in own.items()}
    known = {name: values[~np.isnan(values)] for name, values in found.items()}
    place = pool.listing or pool.path
    if empty := [name for name, values in known.items() if not len(values)]:
        raise ValueError(
            f"no image of the class {empty[0]!r} in {place} has a difficulty; run score_and_record() first, or read "
            "its output with scores=FILE"
        )
    if left_out := sum(map(len, found.values())) - sum(map(len, known.values())):
        logger.warning("%d of %d images in %s have no difficulty and are left out", left_out, len(pool), place)
    return known


def measured_by(pool: Pool) -> str | None:
    """What the difficulties of a pool are, as ``difficulty_by`` says it; None if neither rows nor record tell."""
    if by := next(filter(None, (row.get("difficulty_by") for row in pool.rows)), None):
        return by
    if not measured_among(pool.provenance):
        return None
    return f"{measure_text('error_probability', 'set')} by {generation_of(pool.provenance).get('guide')}"


def scored_by_another(pool: Pool, names: Collection[str], weights: str) -> str | None:
    """What the difficulties of a pool are by, where its rows, or else its record, name others than a classifier.

    Args:
        names: what the classifier is called in records; one of several scorers may be it too.
        weights: its ``digest_of``.
    """
    if by := next(filter(None, (row.get("difficulty_by") for row in pool.rows)), None):
        scorers = str(by).partition(" by ")[2]
        return None if set(names).intersection(scorers.split(", ")) else scorers or None
    record = generation_of(pool.provenance)
    digests, guide = record.get("weights"), record.get("guide")
    is_same = isinstance(digests, Mapping) and digests.get("classifier") == weights
    return None if is_same or guide in names else guide


def warn_of_several_scales(pool: Pool) -> None:
    """Tell which scorers the difficulties of a pool are by, if they are several."""
    found = {
        str(row["difficulty_by"]) for row in pool.rows if row.get("difficulty_by") and row.get("difficulty") is not None
    }
    if len(found) > 1:
        logger.warning(
            "difficulties in %s are of several scales, %s; score all images by one", pool.path, listed(sorted(found))
        )


def _embedded_reference(class_names: Mapping[int, str] | None, scored_by: str | None) -> dict[str, np.ndarray]:
    known = dict(enumerate(embedded.CLASS_NAMES))
    names = known if class_names is None else class_names
    try:
        table = match_classes(names, known, "the embedded reference (Fashion-MNIST)")
    except ValueError as error:
        raise ValueError(
            f"{error}; for other classes name a preset such as hill, or a scored folder of real images"
        ) from error
    _warn_of_other_scores("(embedded)", {EMBEDDED_SCORES}, scored_by)
    reference = embedded.training_difficulties(known)
    return {name: reference[known[table[label]]] for label, name in distinct_names(names).items()}


def _warn_of_other_scores(reference: str, found: set[str], scored_by: str | None) -> None:
    others = found - {scored_by, ""}
    if scored_by and others:
        logger.warning(
            "difficulties are %s, but those of the reference %s are %s: other scales",
            scored_by,
            reference,
            "; ".join(sorted(others)),
        )
