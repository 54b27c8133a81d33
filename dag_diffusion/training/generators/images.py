"""Images that a generator can learn from: two or more classes, numbered from 0 on, that fit into memory."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import with_columns
from dag_diffusion.processes import warn_once

logger = logging.getLogger(__name__)
FEW = 20  # images of a class, below which it is mostly learnt by heart


def images_to_learn(pool: Pool) -> Pool:
    """The pool, with labels 0, 1, 2, ... in the order that they had; classes keep their names.

    Raises:
        ValueError: there is one class, or two of one name.
    """
    names = pool.class_names
    if len(names) < 2:
        raise ValueError(
            f"all images in {pool.path} are of the class {next(iter(names.values()))!r}; difficulty is "
            "between classes, so give folders of two or more"
        )
    require_different(names, pool.path)
    counts = Counter(pool.labels.tolist())
    if few := [f"{names[label]} ({count})" for label, count in sorted(counts.items()) if count < FEW]:
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        warn_once(logger, "classes of fewer than %d images are mostly learnt by heart: %s; add images", FEW, shown)
    places = {label: place for place, label in enumerate(sorted(names))}
    if all(label == place for label, place in places.items()):
        return pool
    warn_once(
        logger, "labels %s become 0 to %d in the generator; classes keep their names", _listed(places), len(names) - 1
    )
    rows = [with_columns(row, {"label": places[row["label"]]}) for row in pool.rows]
    return replace(pool, rows=rows)


def require_different(class_names: Mapping[int, str], source: Path) -> None:
    """Check that a pipeline can tell classes apart by name, in which case and outer spaces do not count.

    Args:
        source: of the images, to be named.

    Raises:
        ValueError: two classes have one name.
    """
    seen: dict[str, str] = {}
    for name in class_names.values():
        before = seen.setdefault(normalize("NFKC", name).casefold().strip(), name)
        if before is not name:
            raise ValueError(
                f"the classes {before!r} and {name!r} in {source} have one name, case and spaces aside; rename one "
                "of them, or put them into one folder"
            )


def _listed(labels: dict[int, int]) -> str:
    shown = [str(label) for label in labels]
    return ", ".join(shown[:5]) + (" ..." if len(shown) > 5 else "")
