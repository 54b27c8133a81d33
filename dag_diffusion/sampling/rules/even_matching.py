"""Exact matching with as many images of every group, such as the mode that each was drawn to.

    min sum_i c_i(x_a(i))   over assignments a of images to slots, and of those that a group can spare to spare rows

Shortest augmenting paths, row by row (Crouse, IEEE Transactions on Aerospace and Electronic Systems 52, 2016): the
assignment, also among equally good ones, is that of ``scipy.optimize.linear_sum_assignment``.  That wants a matrix of
images x images, nearly all of it spare rows of 0 and infinity; here a group's spare rows, which are all alike, are
looked at once and stored never, so that memory is that of slots x images.
"""

from collections import deque
from typing import Any

import numpy as np

from .nearest import quantile_function, slot_cost, slot_edges


def match_evenly(
    difficulties: np.ndarray, values: np.ndarray, ipc: int, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """As ``nearest.match``, but with as many images of every group; as exact.

    Any assignment of images to slots costs at least the distance, and the sorted one costs just that, so the best
    assignment is the answer.  The images that a group has to spare go to rows that cost nothing to fill.  Where ``ipc``
    is no multiple of the groups, chance says which give one more, and the choice is the nearest of those.

    Args:
        difficulties, values, ipc: as in ``match``.
        groups: ``(n,)``.  A group that is too small gives all it has.
        generator: of which groups give one more, where ``ipc`` is no multiple of them.

    Returns:
        Positions, easiest first, ``(ipc,)``.

    Examples:
        >>> pool, groups = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 0, 0, 1])
        >>> match_evenly(pool, np.array([0.15]), 2, groups, np.random.default_rng(0)).tolist()
        [0, 3]
    """
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = even_counts(sizes, ipc, generator)
    assignment = _Assignment(difficulties, values, ipc, inverse)
    for slot in range(ipc):
        assignment.add(slot)
    for group, spare in enumerate(sizes - counts):
        assignment.spare(group, spare)
    chosen = assignment.column[:ipc]
    return chosen[np.argsort(difficulties[chosen], kind="stable")]


def even_counts(sizes: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """``total`` shared out as evenly as groups of these sizes allow, ``(groups,)``."""
    counts = np.zeros(len(sizes), np.int64)
    while counts.sum() < total:
        takers = generator.permutation(np.flatnonzero(counts < sizes))[: total - counts.sum()]
        counts[takers] += 1
    return counts


class _Assignment:
    """Columns are images; rows are the slots, and then the spare rows, which their own group fills at no cost.

    Attributes:
        column: of each row, or -1.
        row: of each column, or -1.
        u, v: dual prices of rows and columns.
    """

    def __init__(self, difficulties: np.ndarray, values: np.ndarray, slots: int, groups: np.ndarray) -> None:
        count = len(difficulties)
        image = (difficulties, *quantile_function(difficulties, values))
        levels, integrals = slot_edges(values, slots)
        self.costs = np.empty((slots, count))
        for slot, row in enumerate(self.costs):
            row[:] = slot_cost(*image, levels[slot : slot + 2], integrals[slot : slot + 2])
        self.slots, self.rows, self.groups = slots, slots, groups
        order = np.argsort(groups, kind="stable")
        self.members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
        self.column, self.row = np.full(count, -1), np.full(count, -1)
        self.u, self.v = np.zeros(count), np.zeros(count)
        self.owner = np.zeros(count, np.int64)  # group of each spare row

    def spare(self, group: int, count: int) -> None:
        """Add rows for images that a group can spare; while it has images left, each takes the first of these."""
        own = self.members[group]
        rows = np.arange(self.rows, self.rows + count)
        self.owner[rows], self.rows = group, self.rows + count
        left = own[self.row[own] < 0][:count] if not (self.v[own] > 0).any() else own[:0]
        self.column[rows[: len(left)]], self.row[left] = left, rows[: len(left)]
        for row in rows[len(left) :]:
            self.add(int(row))

    def add(self, row: int) -> None:
        """Give a row a column by the shortest augmenting path, and let prices follow."""
        if row < self.slots and self._take_free(row):
            return
        search = _Search(self, row)
        end, length = search.run()
        rows, columns = np.array(search.seen_rows[1:], np.int64), np.array(search.seen_columns, np.int64)
        self.u[row] += length
        self.u[rows] += length - search.shortest[self.column[rows]]
        self.v[columns] -= length - search.shortest[columns]
        at = end
        while True:
            taker = int(search.path[at])
            self.row[at] = taker
            self.column[taker], at = at, int(self.column[taker])
            if taker == row:
                return

    def _take_free(self, slot: int) -> bool:
        """Give a slot its nearest column if that is free, which is the path of a single step."""
        distances = self.costs[slot] - self.v
        length = distances.min()
        equal = np.flatnonzero(distances == length)
        if not len(free := equal[self.row[equal] < 0]):
            return False
        self.column[slot], self.row[free[0]] = free[0], slot
        self.u[slot] += length
        return True


class _Search:
    """Dijkstra's from one row to the nearest column that is free."""

    def __init__(self, assignment: _Assignment, row: int) -> None:
        count = len(assignment.row)
        self.given, self.start = assignment, row
        self.shortest, self.path = np.full(count, np.inf), np.full(count, -1)
        self.open = np.arange(count)[::-1].copy()  # columns that are not reached yet, in the order of scipy's search
        self.live, self.closed = count, np.zeros(count, bool)
        self.nearest = np.full(len(assignment.members), np.inf)  # from how near each group's spare rows were looked at
        self.seen_rows: list[int] = []
        self.seen_columns: list[int] = []

    def run(self) -> tuple[int, float]:
        """The free column that is nearest, and how far it is."""
        self._look(self.start, 0.0)
        while True:
            distances = self.shortest[self.open[: self.live]]
            length = float(distances.min())
            equal = np.flatnonzero(distances == length)
            rows = self.given.row[self.open[equal]]
            if len(free := equal[rows < 0]):
                return self._close(int(free[-1])), length
            if self._has_news(rows, length).any():
                self._look(self._pass(deque(equal.tolist()), length), length)
            else:
                self._close_all(equal)
                self.seen_rows += rows.tolist()

    def _pass(self, equal: deque[int], length: float) -> int:
        """Close equally near columns, the first of them first, up to one whose row has news; that row.

        Where the last open column takes the place of a closed one, it may be one of the equally near.
        """
        while True:
            row = self.given.row.item(self._close(equal[0]))
            if self._has_news(row, length):
                return row
            self.seen_rows.append(row)
            if equal[0] == self.live or equal[-1] != self.live:
                equal.popleft()
            else:
                equal.pop()

    def _close_all(self, equal: np.ndarray) -> None:
        """What closing them one after the other comes to: columns from the end take the places before it."""
        live = self.live - len(equal)
        columns, kept = self.open[equal], np.ones(self.live, bool)
        kept[equal] = False
        self.open[equal[equal < live]] = self.open[live : self.live][kept[live:]][::-1]
        self.live = live
        self.closed[columns] = True
        self.seen_columns += columns.tolist()

    def _close(self, place: int) -> int:
        column = self.open.item(place)
        self.live -= 1
        self.open[place] = self.open.item(self.live)
        self.closed[column] = True
        self.seen_columns.append(column)
        return column

    def _has_news(self, row: Any, length: float) -> Any:
        """Whether a look at a row, or rows, may bring columns nearer; a group's spare rows differ by distance alone."""
        given = self.given
        return (row < given.slots) | (length - given.u[row] < self.nearest[given.owner[row]])

    def _look(self, row: int, length: float) -> None:
        """Bring columns nearer that a row, which is so far away, leads to."""
        given = self.given
        self.seen_rows.append(row)
        if row < given.slots:
            columns = self.open[: self.live]
            found = length + given.costs[row, columns] - given.u[row] - given.v[columns]
        else:
            group = int(given.owner[row])
            self.nearest[group] = length - given.u[row]
            columns = given.members[group]
            columns = columns[~self.closed[columns]]
            found = self.nearest[group] - given.v[columns]
        nearer = found < self.shortest[columns]
        self.shortest[columns[nearer]], self.path[columns[nearer]] = found[nearer], row
