"""The set of the guided pool where it is chosen in rounds: whether it is, whether there is room, and which it was.

    OUTPUT/rounds.json    the rows that were chosen, of which pool, so that a run that goes on has the same set

Students come out otherwise on another machine, or with other threads; what was chosen once stays.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dag_diffusion.data.files import read_json_object, write_json
from dag_diffusion.data.pools import Pool, digest_of_images
from dag_diffusion.memory import require_memory
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress
from dag_diffusion.sampling.subsampling import PoolSelection

from .config import DistillationConfig
from .learnable import selection_of_rows, subsample_in_rounds

CHOSEN = "rounds.json"
CHOOSING = "choosing in rounds"  # what its stages begin with


def with_rounds(config: DistillationConfig, *, side: int, modes: int) -> DistillationConfig:
    """The same settings, and in how many rounds the set is chosen, where they do not say.

    Args:
        side: pixels of the longer side of generated images.
        modes: of each class that there are; more than ipc are merged to so many, whose easiest images are as good.

    Raises:
        ValueError: rounds were asked for, and there are fewer modes than images to choose.
    """
    rounds = 1 if config.rounds is None and modes != config.ipc else config.rounds_at(side)
    if rounds > 1 and modes < config.ipc:
        raise ValueError(
            f"rounds is {config.rounds}, but there are {modes} modes of each class for ipc={config.ipc}, and one image "
            "of each mode is chosen; leave rounds out, or lower ipc"
        )
    return replace(config, rounds=rounds)


def require_room(rounds: int, images: int, side: int, channels: int) -> None:
    """Check that a pool of so many images, if it is chosen from in rounds, fits into memory; ValueError if not."""
    if rounds > 1:
        require_memory(images, side, side**2 * channels, "choose without rounds by rounds=1, or draw fewer images")


def choose_in_rounds(
    pool: Pool, output: Path, config: DistillationConfig, device: str, progress: Progress
) -> PoolSelection | None:
    """The set of a pool, or the one that was chosen of it before; None where it is not chosen in rounds.

    Every one of several processes has to call it, and gets the same.

    Args:
        config: from ``with_rounds``.
        progress: called with stage, done and total.
    """
    if config.rounds in (None, 1):
        return None
    place, of = output / CHOSEN, dict[str, Any](rounds=config.rounds, seed=config.seed)
    with fail_together():
        if is_main_process():
            of["images"] = digest_of_images(pool)
            kept = read_json_object(place) if place.exists() else {}
    known = gather(kept if is_main_process() and kept.get("of") == of else None)[0]

    def told(stage: str, done: int, total: int) -> None:
        progress(f"{CHOOSING}, {stage}", done, total)

    if known is None:
        options: dict[str, Any] = {"rounds": config.rounds, "seed": config.seed, "device": device, "progress": told}
        chosen = subsample_in_rounds(pool, config.ipc, **options)
        known = gather({"of": of, "rows": chosen.indices.tolist(), "settings": chosen.settings})[0]
        with fail_together():
            if is_main_process():
                write_json(place, known)
    return selection_of_rows(pool, known["rows"], config.ipc, known["settings"], seed=config.seed)
