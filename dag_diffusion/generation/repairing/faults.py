"""Images of a pool that teach nothing or something wrong: empty ones, copies, near copies, those of another class.

    empty       no channel varies by more than rounding: black, or all of one colour
    duplicate   pixel for pixel another image; in a class the first by name is kept, of two classes none is
    near        |f_i - f_j| <= nearness * rms |f_k - f_l|,  j an earlier image of the class that is kept
    wrong       the classifier finds another class as likely, and the image was not asked to be that hard

f is what goes into the classifier's last layer; the distance that it is compared with is the usual one of two images of
the whole pool.  An image is named once, for the first of these that it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.duplicates import find_twins
from dag_diffusion.data.preparing.inspection import Look, Seen, looks_of
from dag_diffusion.data.rows import Row
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress, renamed

from .repair import BY_CLASSIFIER, FAULTS, Fault, Repair, as_faults

if TYPE_CHECKING:
    from dag_diffusion.sampling.scoring import Scores

FLIPS = 0.5  # the target difficulty from which on another class may be the likelier one
SHOWN = 5


@dataclass(frozen=True)
class Faults:
    """What is wrong with some images.

    Attributes:
        kinds: file name to fault, in the order of the pool's rows.
        twins: file name to the image that a duplicate or near copy is like.
        looked_for: the faults that were looked for; of the others nothing is known.
        classifier: name of the one that was asked; None if none was.
        unreadable: file names of images that could not be looked at.
    """

    kinds: dict[str, Fault] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    looked_for: Sequence[Fault] = FAULTS
    classifier: str | None = None
    unreadable: Sequence[str] = ()

    def of(self, kind: Fault) -> list[str]:
        """File names of the images with this fault."""
        return [name for name, found in self.kinds.items() if found == kind]

    def record(self) -> dict[str, Any]:
        """How many images have each fault that was looked for, for ``pool.json``; JSON values only."""
        counts = Counter(self.kinds.values())
        return {**{kind: counts[kind] for kind in self.looked_for}, "classifier": self.classifier}

    def sentences(self) -> list[str]:
        """One for each fault that was found, with the names of the first images."""
        said = []
        for kind in self.looked_for:
            if names := self.of(kind):
                shown = ", ".join(self._named(name) for name in names[:SHOWN])
                more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
                said.append(f"{len(names):,} {WORDS[kind]}: {shown}{more}")
        return said

    def _named(self, name: str) -> str:
        return f"{name} = {self.twins[name]}" if name in self.twins else name


WORDS: dict[Fault, str] = {
    "empty": "empty, of one colour",
    "duplicate": "equal to another image",
    "near": "nearly like another image of their class",
    "wrong": "of another class, as the classifier finds",
}


def find_faults(
    pool: Pool,
    classifier: Any = None,
    *,
    kinds: Sequence[str] | None = None,
    nearness: float = Repair.nearness,
    name: str | None = None,
    class_map: Mapping[str, str | int] | None = None,
    scores: "Scores | None" = None,
    progress: Progress | None = None,
) -> Faults:
    """Look through a pool or set.  Files that cannot be read are passed over.

    Args:
        classifier: whose features and predictions count, an ``nn.Module`` whose classes are matched by name; None: only
            pixels are looked at.
        kinds: of ``FAULTS``; None: all that can be found, with or without a classifier.
        nearness: distance at which two images of a class are near copies, as a share of the usual one.
        name: of the classifier, for the record.
        class_map: as of ``score_pool``.
        scores: what the classifier said of these images already, as of ``score_pool`` with ``features=True``; None: it
            is asked here.
        progress: called with stage, done and total.

    Under ``accelerate launch`` every process has to call it; they share the images.

    Returns:
        The same in every process.

    Raises:
        ValueError: there is no such fault, it takes a classifier and there is none, ``nearness`` is not in [0, 1], or
            as of ``score_pool``.
    """
    wanted = as_faults(kinds if kinds is not None else FAULTS if classifier is not None else FAULTS[:2])
    _check(wanted, classifier, nearness)
    looks = looks_of(pool, progress=renamed(progress, "images looked at"))
    asked = [kind for kind in wanted if kind in BY_CLASSIFIER]
    if asked and scores is None:
        from dag_diffusion.sampling.scoring import score_pool  # torch, which a look at pixels need not wait for

        scores = score_pool(
            pool,
            classifier,
            measure="error_probability" if "wrong" in asked else "entropy",  # which asks for no class
            on_error="skip",
            class_map=class_map,
            features="near" in asked,
            progress=renamed(progress, "images classified"),
        )
    found: dict[int, Found] = {}
    with fail_together():
        if is_main_process():  # so that no other rounding leads to another answer elsewhere
            found = _by_pixels(pool, looks, wanted)
            if scores is not None and scores.features is not None and "near" in asked:
                found |= _near(pool, scores.features, set(found), nearness)
            if scores is not None and scores.correct is not None and "wrong" in asked:
                mistaken = np.flatnonzero(~scores.correct & ~np.isnan(scores.difficulties)).tolist()
                found = {row: Found("wrong") for row in mistaken if not _is_asked_for(pool.rows[row])} | found
    return _told(pool, looks, gather(found)[0], wanted, (name or "a classifier") if asked else None)


def faults_in_pixels(pool: Pool, seen: Seen | None = None) -> Faults:
    """Empty and equal images, by this process alone: several that share a report do not all come here.

    Args:
        seen: as of ``looks_of``, of the pools and sets of the same report.
    """
    wanted, looks = FAULTS[:2], looks_of(pool, alone=True, seen=seen)
    return _told(pool, looks, _by_pixels(pool, looks, wanted), wanted)


def _told(
    pool: Pool, looks: Sequence[Look], found: Mapping[int, "Found"], wanted: Sequence[Fault], name: str | None = None
) -> Faults:
    """What was found by row, by file name.

    Args:
        name: of the classifier that was asked, if one was.
    """
    names = [row["file_name"] for row in pool.rows]
    return Faults(
        {names[row]: found[row].kind for row in sorted(found)},
        {names[row]: names[one.twin] for row, one in sorted(found.items()) if one.twin is not None},
        wanted,
        name,
        [one for one, look in zip(names, looks, strict=True) if look.problem],
    )


class Found(NamedTuple):
    """A fault of one row, and the row that it is like."""

    kind: Fault
    twin: int | None = None


def _check(wanted: Sequence[Fault], classifier: Any, nearness: float) -> None:
    if not 0 <= nearness <= 1:
        raise ValueError(f"nearness is {nearness}, a share of the usual distance; give one from 0 to 1, such as 0.03")
    if classifier is None and (asked := [kind for kind in wanted if kind in BY_CLASSIFIER]):
        raise ValueError(
            f"only a classifier finds images that are {asked[0]!r}, and there is none; give one, such as the guide, or "
            f"look for {' and '.join(FAULTS[:2])} alone"
        )


def _by_pixels(pool: Pool, looks: Sequence[Look], wanted: Sequence[Fault]) -> dict[int, Found]:
    empty = {row for row, look in enumerate(looks) if look.empty}
    found = {row: Found("empty") for row in empty if "empty" in wanted}
    if "duplicate" in wanted:
        twins = find_twins(pool, looks)
        pairs = [(row, group[0]) for group in twins.within for row in group[1:]]
        pairs += [(row, next(other for other in group if other != row)) for group in twins.across for row in group]
        found |= {row: Found("duplicate", twin) for row, twin in pairs if row not in empty}
    return found


def _near(pool: Pool, features: np.ndarray, faulty: set[int], nearness: float) -> dict[int, Found]:
    """Rows that are near an earlier row of their class which is kept, and that row."""
    from sklearn.neighbors import NearestNeighbors

    readable = ~np.isnan(features).any(1)
    if readable.sum() < 2:
        return {}
    usual = np.sqrt(2 * features[readable].var(0, ddof=1, dtype=np.float64).sum())  # root mean square over all pairs
    centre = features[readable].mean(0, dtype=np.float64)
    found: dict[int, Found] = {}
    for label in pool.class_names:
        rows = np.array([row for row in np.flatnonzero((pool.labels == label) & readable) if row not in faulty])
        if len(rows) < 2:
            continue
        points = features[rows] - centre  # sums of squares of large numbers would hide small distances
        search = NearestNeighbors(radius=nearness * usual, algorithm="brute").fit(points)
        for place, around in enumerate(search.radius_neighbors(points, return_distance=False)):
            earlier = [twin for twin in sorted(rows[around[around < place]].tolist()) if twin not in found]
            if earlier:
                found[int(rows[place])] = Found("near", earlier[0])
    return found


def _is_asked_for(row: Row) -> bool:
    """Whether an image was steered to where the classifier takes it for something else."""
    target = row.get("target_difficulty")
    return isinstance(target, int | float) and target >= FLIPS


def recorded_faults(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The ``Faults.record`` in a ``pool.json``; empty where none was made, or something else stands there."""
    found = provenance.get("faults")
    if not isinstance(found, dict) or not all(isinstance(found.get(kind, 0), int) for kind in FAULTS):
        return {}
    return found
