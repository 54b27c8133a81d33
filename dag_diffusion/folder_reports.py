"""A report of folders on disk: pools and sets with all that lies beside them, and the results of evaluations.

pool, set, results.json -> images, difficulties, selection, accuracies, commands -> report.html
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .pools import Pool, read_pool
from .report_commands import commands_for, this_command
from .report_results import ShownResults, read_results
from .reported_sets import ReportedSet
from .reported_targets import laid_over
from .reporting import write_report
from .target_texts import reference_named, target_named


def report_folders(
    paths: Sequence[Path],
    output: Path,
    *,
    title: str = "Difficulty report",
    reference: Path | None = None,
    target: str = "",
    results: Sequence[Path] = (),
    baseline: str = "",
) -> Path:
    """Write a report of what lies in some folders.

    Args:
        paths: scored pools and distilled sets, of which only those are sets that record how they were chosen.
        reference: scored real images; None for the embedded ones, or for none where their classes are others.
        target: as ``target_texts`` reads it; empty for what sets and pools record.
        results: JSON files of ``evaluate`` or ``run``.
        baseline: of the results; see ``report_results.read_results``.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: there is nothing at one of the paths.
        ValueError: one holds something else, is not scored yet, or the target or baseline names nothing.
    """
    found = [ReportedSet(name, read_pool(path)) for name, path in _named(paths).items()]
    chosen = [bool(one.record) for one in found]
    first = next((one for one, is_set in zip(found, chosen, strict=True) if is_set), found[0])
    shown = read_results(results, baseline) if results else ShownResults([], [], [])
    return write_report(
        output,
        title=title,
        reference=_reference(reference, first.pool),
        pools=[one for one, is_set in zip(found, chosen, strict=True) if not is_set],
        selected=[one for one, is_set in zip(found, chosen, strict=True) if is_set],
        target=laid_over(target_named(target, first.pool.class_names), first) if target else None,
        tables=shown.tables,
        drawings=shown.drawings,
        provenance={one.name: one.pool.provenance for one in found},
        commands=commands_for(
            [(path, one.pool) for path, one in zip(paths, found, strict=True)], [*shown.commands, this_command()]
        ),
    )


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Short names where they tell the folders apart, and the paths themselves where they do not."""
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError("the same folder is given twice to the report; name each pool and each set once")
    return dict(zip(names, paths, strict=True))


def _reference(path: Path | None, pool: Pool) -> dict[str, np.ndarray]:
    try:
        return reference_named(path, pool.class_names)
    except ValueError:
        if path is not None:
            raise
        return {}  # the embedded images are of other classes
