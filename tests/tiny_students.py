"""A set chosen in rounds, by one of several processes that share the students."""

from pathlib import Path

import numpy as np
from warm import join_others

from dag_diffusion.distillation.learnable import subsample_in_rounds


def choose(pool: Path, **options) -> np.ndarray:
    """Rows of a pool with four modes a class."""
    return subsample_in_rounds(pool, 4, rounds=3, students=3, device="cpu", **options).indices


def choose_with_others(folder: Path, rank: int, processes: int, port: int, pool: Path) -> None:
    join_others(rank, processes, port)
    told: list[int] = []
    rows = choose(pool, progress=lambda stage, done, total: told.append(done) if stage == "students" else None)
    np.savez(folder / f"{rank}.npz", rows=rows, told=told[-1])
