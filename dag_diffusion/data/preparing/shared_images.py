"""Images that two folders have in common, byte for byte: test images that were trained on say nothing.

Only files of equal length are read, so that two folders of photographs cost a look at their sizes.
"""

from collections import defaultdict

from dag_diffusion.data.pools import Pool


def shared_rows(pool: Pool, other: Pool) -> list[int]:
    """Rows of ``pool`` whose image is in ``other`` too, under whatever name.

    A file that cannot be read is in none; decoding it will raise the error.
    """
    theirs, ours = _by_length(other), _by_length(pool)
    shared = list[int]()
    for length in ours.keys() & theirs.keys():
        known = {_digest(other, index) for index in theirs[length]} - {None}
        shared += [index for index in ours[length] if _digest(pool, index) in known]
    return sorted(shared)


def _by_length(pool: Pool) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(pool.rows):
        try:
            file = pool.path / row["file_name"]
            length = file.stat().st_size if pool.encoded is None else len(pool.encoded[index])
        except OSError:
            continue
        found[length].append(index)
    return found


def _digest(pool: Pool, index: int) -> str | None:
    try:
        return pool.file_digest(index)
    except OSError:
        return None
