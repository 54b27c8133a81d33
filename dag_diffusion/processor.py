"""What the processor at hand computes fast, and computing in it."""

from contextlib import AbstractContextManager

import torch


def has_bfloat16(device: str | torch.device = "cpu") -> bool:
    """Whether a device multiplies in bfloat16 by instructions of its own; by emulation it is slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities() if kind == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def fast_precision(device: str | torch.device = "cpu") -> str:
    """What networks compute fastest in on a device without losing what matters: ``bfloat16`` or ``float32``."""
    return "bfloat16" if has_bfloat16(device) else "float32"


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Let convolutions and linear layers compute in ``float32`` or ``bfloat16`` while the context lasts."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
