"""Which images of a pool are left out, for which reason, and how a person is told of it.

reason -> file names, in the order of the rows; a record of them is JSON
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dag_diffusion.data.class_names import listed
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool

from .duplicates import LinkRule, TwinRule, Twins, require_no_twins_across
from .inspection import Look
from .splitting import capped, images_per_class

SHOWN = 3


class LeftOut:
    """Rows that are kept, and for each reason what was left out."""

    def __init__(self, pool: Pool, looks: Sequence[Look]) -> None:
        self.pool, self.looks = pool, looks
        self.kept = list(range(len(pool)))
        self.out: dict[str, Any] = {}

    def _name(self, row: int) -> str:
        return self.pool.rows[row]["file_name"]

    def _drop(self, rows: Iterable[int]) -> None:
        dropped = set(rows)
        self.kept = [row for row in self.kept if row not in dropped]

    def unreadable(self, *, skip: bool) -> None:
        """Leave out what cannot be read, or refuse it with the names of three."""
        rows = [row for row in self.kept if self.looks[row].problem]
        if rows and not skip:
            first = "; ".join(self.looks[row].problem for row in rows[:SHOWN])
            more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            raise UnreadableImageError(
                f"{len(rows)} of {len(self.pool)} images cannot be read: {first}{more}", "or use skip_unreadable=True"
            )
        self.out["unreadable"] = {self._name(row): self.looks[row].problem for row in rows}
        self._drop(rows)

    def vanished(self) -> None:
        """Leave out drawings of which nothing is seen on the background; what is of one colour by itself stays."""
        rows = [row for row in self.kept if self.looks[row].one_colour and self.looks[row].transparent]
        self.out["vanished"] = [self._name(row) for row in rows]
        self._drop(rows)

    def shared(self, rows: Iterable[int]) -> None:
        """Leave out pictures that are tested on, or refuse it where a class has no others."""
        there = set(self.kept)
        rows = [row for row in rows if row in there]
        self.out["also_tested_on"] = [self._name(row) for row in rows]
        before = set(self.pool.labels[self.kept].tolist())
        self._drop(rows)
        if gone := sorted(before - set(self.pool.labels[self.kept].tolist())):
            names = [repr(self.pool.class_names[label]) for label in gone]
            raise ValueError(
                f"all images of {listed(names)} in {self.pool.path} are among those that are tested on; give test "
                "images that nothing is trained on"
            )

    def links(self, found: Twins, rule: LinkRule) -> None:
        """Leave out links into other classes, and keep what they lead to, where the real file is to count."""
        there, links, labels = set(self.kept), set(found.links), self.pool.labels
        out: dict[str, str] = {}
        for group in found.across if rule == "real" else ():
            real = [row for row in group if row in there and row not in links]
            if len(set(labels[real].tolist())) == 1:
                theirs = labels[real[0]]
                out |= {self._name(row): self._name(real[0]) for row in group if row in there and labels[row] != theirs}
        self.out["links_into_other_classes"] = out
        self._drop([row for row in self.kept if self._name(row) in out])

    def twins(self, found: Twins, rule: TwinRule) -> None:
        """Leave out pictures of several classes, and copies within one, as the rule has it."""
        there = set(self.kept)
        groups = [[row for row in group if row in there] for group in found.groups]
        labels = self.pool.labels
        across = [group for group in groups if len(set(labels[group].tolist())) > 1]
        within = [group for group in groups if len(group) > 1 and len(set(labels[group].tolist())) == 1]
        if rule == "refuse":
            require_no_twins_across(self.pool, replace(found, across=across))
        if rule == "keep":
            across, within = [], []
        self.out["twins_across_classes"] = [[self._name(row) for row in group] for group in across]
        self.out["copies"] = [[self._name(row) for row in group] for group in within]
        self._drop(row for group in across for row in group)
        self._drop(row for group in within for row in group[1:])

    def small_classes(self, least: int, *, chosen: bool) -> None:
        """Leave out classes with fewer than ``least`` images, or refuse them where the user chose them by name."""
        counts = Counter(self.pool.labels[self.kept].tolist())
        small = [label for label in sorted(self.pool.class_names) if counts[label] < least]
        names = {self.pool.class_names[label]: counts[label] for label in small}
        if names and chosen:
            raise ValueError(
                f"of the classes {listed(names)} fewer images can be used than the {least} that are needed; take "
                "other classes, or ask for less"
            )
        if len(small) == len(self.pool.class_names):
            raise ValueError(
                f"no class of {self.pool.path} has {least} image{'s' * (least > 1)} that can be used: of "
                f"{len(self.pool)} images {self._reasons()}; use another folder, or ask for less"
            )
        self.out["small_classes"] = names
        gone = set(small)
        self._drop([row for row in self.kept if int(self.pool.labels[row]) in gone])

    def _reasons(self) -> str:
        """How many images were left out so far, in words."""
        rows = {
            "cannot be read": len(self.out["unreadable"]),
            "cannot be seen on their background": len(self.out["vanished"]),
            "are tested on": len(self.out["also_tested_on"]),
            "are pictures that are in several classes": sum(map(len, self.out["twins_across_classes"])),
            "are links into other classes": len(self.out["links_into_other_classes"]),
            "are copies": sum(len(group) - 1 for group in self.out["copies"]),
        }
        return ", ".join(f"{count} {why}" for why, count in rows.items() if count) or "none is left out"

    def above(self, most: int, seed: int) -> None:
        """Leave out what a class has more than ``most``, drawn at random."""
        before = self.pool.select(self.kept)
        rows = np.array(self.kept, np.int64)[capped(before, most, seed)].tolist()
        counts = images_per_class(before)
        self.out["above_most"] = {name: count - most for name, count in counts.items() if count > most}
        self.kept = rows

    def record(self, twins: Twins) -> dict[str, Any]:
        """Numbers of images, and names of what is odd and of what was left out."""
        return {
            "images": len(self.pool),
            "kept": len(self.kept),
            "classes": dict(images_per_class(self.pool.select(self.kept))),
            "transparent": sum(look.transparent for look in self.looks),
            "links": {"all": len(twins.links), "into_other_classes": len(twins.misled)},
            "one_colour": [self._name(row) for row in self.kept if self.looks[row].one_colour],
            "several_frames": [self._name(row) for row in self.kept if self.looks[row].several],
            "faint": [self._name(row) for row in self.kept if self.looks[row].faint],
            "left_out": self.out,
        }


def sentences(record: dict[str, Any]) -> list[str]:
    """What a record says that its reader should know, one sentence each; empty where nothing is odd."""
    out, images, background = record["left_out"], record["images"], record["background"]
    said = []
    if names := list(out["unreadable"]):
        said.append(f"{len(names)} of {images} images cannot be read and are left out: {listed(names)}")
    if names := out["vanished"]:
        said.append(
            f"{len(names)} of {images} images are nothing but {background} on {background} and are left out: "
            f"{listed(names)}; another background may show them"
        )
    if names := out["also_tested_on"]:
        said.append(f"{len(names)} of {images} images are tested on and are left out of training: {listed(names)}")
    if names := out.get("links_into_other_classes"):
        said.append(
            f"{len(names)} links into other classes are left out, and their {len(set(names.values()))} pictures kept "
            f"where the files lie: {listed(' -> '.join(pair) for pair in names.items())}"
        )
    if groups := out["twins_across_classes"]:
        count = sum(map(len, groups))
        way = "; links='real' keeps those that are only linked" if record["links"]["into_other_classes"] else ""
        said.append(
            f"{count} images are {len(groups)} pictures that are in several classes and are left out: "
            f"{listed(' = '.join(group[:2]) for group in groups)}{way * (not names)}"
        )
    if groups := out["copies"]:
        count = sum(map(len, groups)) - len(groups)
        said.append(
            f"{count} images are copies of others in their class and are left out: {listed(g[1] for g in groups)}"
        )
    if names := out["small_classes"]:
        said.append(f"{len(names)} classes have fewer than {record['least']} images and are left out: {listed(names)}")
    if names := record["one_colour"]:
        said.append(f"{len(names)} of {images} images are of one colour and are kept: {listed(names)}")
    if names := record.get("several_frames", []):
        said.append(
            f"{len(names)} of {images} images have several pages or frames; the first is taken: {listed(names)}"
        )
    if names := record.get("faint", []):
        said.append(
            f"{len(names)} of {images} images have 16 bits and use 12 of them or fewer, so that they come out nearly "
            f"black; stretch them to 16 bits, or save them with 8: {listed(names)}"
        )
    counts = record["classes"]
    (large, many), (small, few) = next(iter(counts.items())), next(reversed(counts.items()))
    if many > 10 * few:
        said.append(f"{large} has {many} images and {small} {few}; most=N takes at most N of each class")
    return said
