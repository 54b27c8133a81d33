"""How many cores of the processor at hand may be used, what it computes fast, and computing in it."""

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """How many cores this process may use at a time, by what it is bound to and by the limits of its job."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [limit.split() for limit in limits_of_job("cpu.max")]  # microseconds of each so many
    return min([bound, *(math.ceil(int(quota) / int(period)) for quota, period in shares if quota != "max")])


def limits_of_job(name: str) -> list[str]:
    """What a file such as ``memory.max`` says in this process's control group (of version 2) and in those above it."""
    found = []
    with suppress(OSError):
        own = [line.removeprefix("0::/") for line in GROUP.read_text().splitlines() if line.startswith("0::/")]
        folder = GROUPS / "".join(own)
        found = [(above / name).read_text().strip() for above in (folder, *folder.parents) if (above / name).is_file()]
    return found


def has_bfloat16(device: "str | torch.device" = "cpu") -> bool:
    """Whether a device multiplies in bfloat16 by instructions of its own; by emulation it is slower than float32."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities() if kind == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def fast_precision(device: "str | torch.device" = "cpu") -> str:
    """What networks compute fastest in on a device without losing what matters: ``bfloat16`` or ``float32``."""
    return "bfloat16" if has_bfloat16(device) else "float32"


def computing_in(precision: str, device: "torch.device") -> AbstractContextManager[None]:
    """Let convolutions and linear layers compute in ``float32`` or ``bfloat16`` while the context lasts."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def usual_torch() -> Iterator[None]:
    """Let torch compute as if its user had changed nothing: in float32, without autocast, and with gradients.

    Around what learns or measures, so that results do not depend on where it is called; also as a decorator.
    """
    import torch

    with ExitStack() as leaving:
        leaving.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        leaving.enter_context(torch.inference_mode(False))
        leaving.enter_context(torch.enable_grad())
        # not by torch.autocast: weights that are cast to bfloat16 within one are kept until the outermost ends, however
        # they change by training; within the caller's none may be kept
        for kind in ("cpu", "cuda", "mps", "xpu"):
            leaving.callback(torch.set_autocast_enabled, kind, torch.is_autocast_enabled(kind))
            torch.set_autocast_enabled(kind, False)
        nested = torch.autocast_increment_nesting() > 1
        torch.autocast_decrement_nesting()
        leaving.callback(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
        torch.set_autocast_cache_enabled(torch.is_autocast_cache_enabled() and not nested)
        yield
