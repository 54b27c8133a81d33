"""One page that shows a distillation: accuracies, difficulty histograms, images from easy to hard, provenance.

    folders, results.json -> reference, pools, target, sets -> figures + grids + tables -> one HTML file

The page opens from disk, asks the network for nothing, and takes every name that it shows for text, never for markup.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from dag_diffusion.data.files import require_file_place, require_own_file, write_atomically
from dag_diffusion.data.pools import read_pool
from dag_diffusion.data.provenance import generation_of
from dag_diffusion.evaluation.tables import Table as Table  # a name of this room, too
from dag_diffusion.sampling.references import measured_by, reference_named
from dag_diffusion.sampling.scales import RawScale
from dag_diffusion.sampling.target_parser import as_target

from .difficulty_figures import class_axis, class_panel
from .figures import (
    HIGHEST,
    LOWEST,
    PALETTE,
    PHONE,
    Drawing,
    Series,
    compared_series,
    plain,
    ridges,
    set_color,
    svg,
    themed,
)
from .recipes import definition_of, recipe_of
from .redundancy import fault_table, shown_redundancy
from .reproduction import commands_for, this_command
from .results import ShownResults, read_results
from .selection import (
    cell,
    control_drawings,
    count,
    distance_table,
    is_lacking,
    is_numeric,
    quota_drawings,
    quota_tables,
)
from .sets import ReportedSet, laid_over, series_of, target_of_sets
from .thumbnails import grid_rows, images_per_class

logger = logging.getLogger(__name__)
TEMPLATE = "report.html.jinja"
MARK = b'<meta name="generator" content="dag-diffusion">'  # of a page of ours, which the next may replace


def write_report(
    path: Path,
    *,
    title: str,
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray] | None = None,
    tables: Sequence[Table] = (),
    drawings: Sequence[Drawing] = (),
    provenance: Mapping[str, Any] = {},
    commands: Sequence[str] = (),
) -> Path:
    """Write the report, whole or not at all.

    Args:
        title: of the page.
        reference: class name to the difficulties ``(n,)`` in [0, 1] of real images; empty for none.
        pools: what was generated; those whose rows have a target get a figure of target against achieved.
        selected: what was chosen from them; those that record quotas get tables of what was wanted, found and lacking.
        target: class name to the target difficulties; by default what the sets record, see ``sets.target_of_sets``.
            Without any, the reference is drawn over the others.
        tables: shown first, as the accuracies are what readers look for.
        drawings: shown with them, such as ``results.accuracy_drawings``.
        provenance: JSON values; others are shown as their ``str``.
        commands: how to make all of this again.

    Returns:
        The path of the file.

    Raises:
        ValueError: no image of a set has a difficulty yet.
    """
    require_file_place(path := Path(path), "report.html")
    wanted, whose = target_of_sets(pools, selected) if target is None else (target, "")
    series = series_of(reference, pools, selected, wanted)
    classes = list(dict.fromkeys(name for one in series for name in one.by_class))
    per_class = images_per_class(len(classes), len(pools) + len(selected))
    sets = [_shown_set(one, i, per_class) for i, one in enumerate([*pools, *selected])]
    page = _template().render(
        title=title,
        facts=_facts(len(classes), pools, selected),
        definition=definition_of(one.pool for one in (*pools, *selected)),
        shown=sum(len(row["images"]) for one in sets for row in one["rows"]),
        reference_given=bool(reference),
        classes={name: number for number, name in enumerate(classes)},
        palette=PALETTE,
        tables=tables,
        drawings=drawings,
        sets=sets,
        faults=fault_table([*pools, *selected]),
        chosen=[*distance_table(selected), *quota_tables(selected)],
        quotas=quota_drawings(selected, len(pools)),
        controls=control_drawings(pools),
        whose=whose,
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False, default=str) if provenance else "",
        commands=commands,
        **_histograms(series, classes),
    )
    write_atomically(path, page.encode(errors="replace"))  # file names may hold what no text can
    return path


def report_folders(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    title: str = "Difficulty report",
    reference: Path | None = None,
    target: str | None = None,
    results: Sequence[Path] = (),
    baseline: str | None = None,
    redundancy: Sequence[Path] = (),
) -> Path:
    """Write a report of pools and sets in folders, with all that lies beside them, and of evaluations.

    Args:
        paths: scored pools and distilled sets, of which only those are sets that record how they were chosen.
        output: HTML file.
        title: of the page.
        reference: scored real images; None for those that the first set or pool followed, else for the embedded ones,
            or for none where their classes are others.
        target: text as ``target_parser`` reads it; None for what sets and pools record.
        results: JSON files of ``evaluate`` or ``run``.
        baseline: name of the set that all results are compared with; see ``results.read_results``.
        redundancy: JSON files of ``redundancy``.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: there is nothing at one of the paths.
        FileExistsError: ``output`` is another file than an earlier report, which is replaced.
        ValueError: one holds something else, is not scored yet, or the target or baseline names nothing.
    """
    places = [Path(path) for path in paths]
    require_file_place(output := Path(output), "report.html")  # before all images are looked at
    require_own_file(output, MARK, "report")
    found = [ReportedSet(name, read_pool(path)) for name, path in _named(places).items()]
    pools, selected = [one for one in found if not one.record], [one for one in found if one.record]
    first = (selected or pools)[0]
    by = measured_by(first.pool)
    wanted = None if target is None else as_target(target, first.pool.class_names, scored_by=by)
    shown = read_results(results, baseline) if results else ShownResults(tables=[], drawings=[], commands=[])
    tables, drawings = shown_redundancy(redundancy)
    return write_report(
        output,
        title=title,
        reference=_reference(reference, first),
        pools=pools,
        selected=selected,
        target=None if wanted is None else laid_over(wanted, first, pools),
        tables=[*shown.tables, *tables],
        drawings=[*shown.drawings, *drawings],
        provenance={one.name: one.pool.provenance for one in found},
        commands=commands_for(
            [(path, one.pool) for path, one in zip(places, found, strict=True)], [*shown.commands, this_command()]
        ),
    )


def _histograms(series: Sequence[Series], classes: Sequence[str]) -> dict[str, Any]:
    compared = compared_series(series)
    return {
        "series": series,
        "overall": svg(ridges(series, width=PHONE), "Histogram of difficulty, all classes") if series else None,
        "panels": {name: class_panel(series, name) for name in classes},
        "axis": class_axis(series),
        "compared": None if compared is None else series[compared].name,
        "limits": (plain(LOWEST), plain(HIGHEST)),
    }


def _shown_set(one: ReportedSet, number: int, per_class: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "note": " ".join(part for part in (recipe_of(one.pool), one.note) if part),
        "color": set_color(number),
        "rows": grid_rows(one, per_class),
        "has_targets": bool(one.targets),
        "unscored": count(one.unscored, "image", "images") if one.unscored else "",
    }


def _facts(classes: int, pools: Sequence[ReportedSet], selected: Sequence[ReportedSet]) -> str:
    facts = [count(classes, "class", "classes")]
    for kind, sets in (("pool", pools), ("distilled set", selected)):
        images = count(sum(len(one.pool) for one in sets), "image", "images")
        facts += [f"{count(len(sets), kind, kind + 's')} with {images}"] if sets else []
    return ", ".join(facts)


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("dag_diffusion.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "numeric": is_numeric, "css": themed}
    environment.tests["lacking"] = is_lacking
    return environment.get_template(TEMPLATE)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Each folder's name, or its whole path where names are equal."""
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError("the same folder is given twice to the report; name each pool and each set once")
    return dict(zip(names, paths, strict=True))


def _reference(path: Path | None, first: ReportedSet) -> dict[str, np.ndarray]:
    """The real images that are named, or else those that the set or its pool followed, or else the embedded ones."""
    names, by = first.pool.class_names, measured_by(first.pool)
    steered = generation_of(first.pool.provenance).get("settings", {}).get("target")
    for target in (first.record.get("target"), steered) if path is None else ():
        if followed := list(_real_images_in(target)):
            return _followed(followed, first, by)
    try:
        return reference_named(path, names, scored_by=by)
    except ValueError:
        if path is not None:
            raise
        return {}  # the embedded images are of other classes


def _real_images_in(target: Any) -> Iterator[dict[str, Any]]:
    """The real images that the record of a target names, also as a part of it."""
    if isinstance(target, dict) and isinstance(target.get("reference"), dict):
        yield target
    elif isinstance(target, dict | list):
        for part in target.values() if isinstance(target, dict) else target:
            yield from _real_images_in(part)


def _followed(records: Sequence[dict[str, Any]], first: ReportedSet, by: str | None) -> dict[str, np.ndarray]:
    """The difficulties of recorded real images; empty, with a warning, unless they are found as they were."""
    texts = {str(one.get("text") or one.get("name")): "auto" in one for one in records}
    words = {text.partition(":")[2] or "reference" if auto else text for text, auto in texts.items()}
    try:
        (word,) = words
        target = as_target(word, first.pool.class_names, scored_by=by)
        known = target.summary()["reference"]
        if all(np.allclose(known[name], n, atol=0) for one in records for name, n in one["reference"].items()):
            return {name: target.values(name, RawScale()) for name in known}
    except (KeyError, OSError, TypeError, ValueError):
        pass  # they are elsewhere, of several folders, or recorded by another program
    logger.warning(
        "%s followed real images, %s, which are not found as it recorded them; name them as the reference to see them",
        first.name,
        ", ".join(sorted(words)),
    )
    return {}
