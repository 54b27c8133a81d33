"""Images dealt out by class, so that a classifier is asked of images that it has not seen, nor any twin of them.

    class c: its images in random order, twins together, dealt to the folds in turn      held out: the first of them

Twins have equal pixels, whatever their names or classes.  The same images are dealt alike in whatever order they stand,
since the order is drawn for their names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Dealing:
    """What is dealt out.

    Attributes:
        labels: ``(n,)`` integers.
        twins: ``(n,)`` integers, the same for images that belong together.
        names: of the images, each once.
        class_names: label to name, for errors.
        seed: random seed of the order.
    """

    labels: np.ndarray
    twins: np.ndarray
    names: Sequence[str]
    class_names: Mapping[int, str]
    seed: int

    def folds(self, count: int) -> np.ndarray:
        """A fold for each image, ``(n,)`` int64 in [0, count), such that outside of each all classes have images.

        Raises:
            ValueError: a class has fewer than two different images; it is named.
        """
        fold = dict[int, int]()
        ways = "give folds=0, add images, or leave the class out"
        for start, (_, groups) in enumerate(self._classes(ways)):
            for turn, group in enumerate(group for group in groups if group not in fold):
                fold[group] = (start + turn) % count
        found = np.array([fold[group] for group in self.twins.tolist()], np.int64)
        for one in range(count):
            self._require_all(found != one)
        return found

    def held_out(self, share: float) -> np.ndarray:
        """``(n,)`` bool, about a share of each class, at least one image of it and never all.

        Raises:
            ValueError: a class has fewer than two different images; it is named.
        """
        out = dict[int, bool]()
        ways = "add images, give held_out=0, name the other classes by classes=NAMES, or images by holdout=FOLDER"
        for _, groups in self._classes(ways):
            wanted = min(max(1, round(share * len(groups))), len(groups) - 1)
            held = sum(out.get(group, False) for group in groups)  # since they have twins in an earlier class
            for group in (group for group in groups if group not in out):
                out[group] = held < wanted
                held += out[group]
        found = np.array([out[group] for group in self.twins.tolist()], bool)
        self._require_all(~found)
        return found

    def _classes(self, ways: str) -> Iterator[tuple[int, list[int]]]:
        """Each label with its groups of twins in random order; ``ways`` out where there is only one are told."""
        order = np.array(sorted(range(len(self.names)), key=lambda index: self.names[index]))
        order = order[np.argsort(self.labels[order], kind="stable")]  # by class, and in each by name
        labels, starts = np.unique(self.labels[order], return_index=True)
        for place, (label, rows) in enumerate(zip(labels, np.split(order, starts[1:]), strict=True)):
            groups = list(dict.fromkeys(self.twins[rows].tolist()))
            if len(groups) < 2:
                raise ValueError(
                    f"class {self.class_names[int(label)]!r} has only one image, or equal ones, and none can be held "
                    f"out; {ways}"
                )
            yield int(label), np.random.default_rng([self.seed, place]).permutation(groups).tolist()

    def _require_all(self, kept: np.ndarray) -> None:
        if lost := sorted(set(self.labels.tolist()) - set(self.labels[kept].tolist())):
            raise ValueError(
                f"class {self.class_names[lost[0]]!r} has no image left to train on, since its images have twins in "
                "other classes; remove those, or leave the class out"
            )
