"""Which images are drawn again, and how often: the faults by name, and the choice among them.

    empty, duplicate: seen in the pixels        near, wrong: found by a classifier

What each of them is says ``faults``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

if TYPE_CHECKING:
    from torch import nn

Fault = Literal["empty", "duplicate", "near", "wrong"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
BY_CLASSIFIER = ("near", "wrong")


def as_faults(names: Iterable[str]) -> tuple[Fault, ...]:
    """Kinds of faults, checked and in one order; ``all`` stands for all of them.

    Raises:
        ValueError: there is no such fault.
    """
    names = list(names)
    if unknown := [name for name in names if name not in (*FAULTS, "all")]:
        raise ValueError(
            f"there is no fault {unknown[0]!r} that images are looked through for; choose among {', '.join(FAULTS)}, "
            "or all"
        )
    return cast(tuple[Fault, ...], tuple(kind for kind in FAULTS if kind in names or "all" in names))


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Which images of a pool are drawn again, and how often.

    Attributes:
        faults: empty, duplicate, near or wrong, or all; see ``faults.find_faults``.
        most_redraws: times that one image is drawn again before it is kept as it is and named as given up.
        nearness: distance at which two images of a class are near copies, as a share of the usual one.

    Raises:
        ValueError: there is no such fault, none is given, or a number is out of range.
    """

    faults: Sequence[str] = ("empty", "duplicate")
    most_redraws: int = 10
    nearness: float = 0.03  # see docs/results/redundancy.md

    def __post_init__(self) -> None:
        if not as_faults(self.faults):
            raise ValueError("a repair of no faults does nothing; name some, such as 'empty', or leave it out")
        if self.most_redraws < 1:
            raise ValueError(f"most_redraws is {self.most_redraws}; an image is drawn again at least once, such as 10")
        if not 0 <= self.nearness <= 1:
            raise ValueError(f"nearness is {self.nearness}; give a share of the usual distance, from 0 to 1")

    def record(self) -> dict[str, Any]:
        """For ``pool.json``; JSON values only."""
        return {"faults": as_faults(self.faults), "most_redraws": self.most_redraws, "nearness": self.nearness}

    def require_possible(self, guide: "nn.Module | None", *, pushed_apart: bool) -> None:
        """ValueError where a fault takes a guide and there is none, or images depend on those drawn with them."""
        if pushed_apart:
            raise ValueError(
                "images that are pushed apart cannot be drawn again one by one, since each depends on its group; leave "
                "out the repair, or diversity guidance"
            )
        asked = [fault for fault in as_faults(self.faults) if fault in BY_CLASSIFIER]
        if guide is None and asked:
            raise ValueError(
                f"only a guide finds images that are {asked[0]!r}, and this pipeline has none; give a classifier, or "
                "repair empty images and duplicates alone"
            )


def with_faults(repair: Repair | None, always: Sequence[Fault]) -> Repair | None:
    """A repair of these faults too, whether or not one is asked for; None where there are none."""
    if not always:
        return repair
    return Repair(faults=always) if repair is None else replace(repair, faults=as_faults([*repair.faults, *always]))
