"""A set in disjoint parts: what a network learns from one tells how much of the others is said there already.

    50 a class -> five tens -> train on one, test on the other four -> cross accuracy

High where the parts repeat each other.  After the diagnostic of Learnability-Guided Diffusion (CVPR 2026), which cuts
50 images a class in five.  By itself it is no praise: parts of noise tell each other nothing either.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from dag_diffusion.evaluation.labelled_images import LabelledImages, digest, subset, usual_normalisation
from dag_diffusion.evaluation.protocols import Protocol
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.progress import Stage


def require_parts(name: str, labels: np.ndarray, class_names: Mapping[int, str], parts: int) -> None:
    """Check that every class of a set can be cut in so many parts.

    Raises:
        ValueError: they are fewer than two parts, or a class has fewer images, and how many parts it would do for.
    """
    if parts < 2:
        raise ValueError(f"parts is {parts}; cut a set in at least 2, one to train on and one to test on, such as 5")
    counts = {label: int((labels == label).sum()) for label in class_names}
    label, least = min(counts.items(), key=lambda one: one[1])
    if least < parts:
        way = f"use parts={least}" if least >= 2 else "give a set with 2 or more of every class"
        raise ValueError(
            f"class {class_names[label]!r} of {name} has {least} image{'' if least == 1 else 's'}, too few for {parts} "
            f"disjoint parts; {way}"
        )


def disjoint_rows(labels: np.ndarray, parts: int, seed: int) -> list[np.ndarray]:
    """Indices of the images of each part: of every class equally many, drawn at random, none in two parts.

    Args:
        labels: ``(images,)`` integers.  Up to ``parts`` - 1 images of each class are in none.

    Raises:
        ValueError: as ``require_parts``.
    """
    require_parts("the set", labels, {label: str(label) for label in np.unique(labels).tolist()}, parts)
    chosen: list[list[np.ndarray]] = [[] for _ in range(parts)]
    for place, label in enumerate(np.unique(labels).tolist()):
        rows = np.random.default_rng([seed, place]).permutation(np.flatnonzero(labels == label))
        for part, own in zip(chosen, np.split(rows[: len(rows) // parts * parts], parts), strict=True):
            part.append(own)
    return [np.sort(np.concatenate(part)) for part in chosen]


def cross_trainings(
    name: str,
    images: LabelledImages,
    *,
    parts: int,
    network: str,
    protocol: Protocol,
    seeds: Sequence[int],
    seed: int,
    device: str | None,
    known: Iterable[Result],
    on_result: Callable[[Result], None],
    progress: Stage,
) -> list[Result]:
    """Train on each part, and test on all the others together; arguments as of ``trials.evaluate``.

    Args:
        seed: random seed of the parts.
    """
    rows, known = disjoint_rows(np.asarray(images.labels), parts, seed), list(known)
    results: list[Result] = []
    before = progress.done
    for number, own in enumerate(rows):
        others = np.sort(np.concatenate([part for part in rows if part is not own]))
        results += evaluate(
            {f"{name}, part {number + 1} of {parts}": subset(images, own)},
            subset(images, others),
            network=network,
            protocol=protocol,
            seeds=seeds,
            normalisation=usual_normalisation(images.images.shape[-1]),
            device=device,
            test_name=f"other parts of {name} ({digest(images)}, seed {seed})",  # so that no others count as known
            known=known,
            on_result=on_result,
            progress=progress.after(before + len(results)),
        )
    return results
