"""What lies in the folder of a pool."""

from pathlib import Path


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the logs, which tell the time."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".log")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
