"""Attention in float32 within a denoiser that computes in bfloat16, for training on a CPU.

Where tokens are few, torch's attention and its backward pass take a CPU longer in bfloat16 than in float32; the layers
around it, which do nearly all of the work, stay in bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class SinglePrecision:
    """A processor of diffusers' attention of a sequence to itself, without mask, as DiT has it."""

    def __call__(self, attention: Any, hidden_states: Tensor, *unused: Any, **also_unused: Any) -> Tensor:
        """Attention of ``(batch, tokens, channels)``."""
        heads = (layer(hidden_states) for layer in (attention.to_q, attention.to_k, attention.to_v))
        query, key, value = (one.unflatten(2, (attention.heads, -1)).transpose(1, 2).float() for one in heads)
        with torch.autocast(hidden_states.device.type, enabled=False):
            attended = scaled_dot_product_attention(query, key, value)
        joined = attended.transpose(1, 2).flatten(2).to(hidden_states.dtype)
        return attention.to_out[1](attention.to_out[0](joined))


@contextmanager
def suited_attention(transformer: DiTTransformer2DModel, precision: str, device: torch.device) -> Iterator[None]:
    """Let a denoiser have the attention that trains fastest in a precision on a device, for a while."""
    attentions = [block.attn1 for block in transformer.transformer_blocks]
    before = [attention.processor for attention in attentions]
    if precision == "bfloat16" and device.type == "cpu":
        for attention in attentions:
            attention.processor = SinglePrecision()
    try:
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.processor = processor
