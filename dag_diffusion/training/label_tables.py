"""A denoiser for other classes: every block's label table gets new rows, and keeps that of the null class as its last.

    row = mean + sum_k w_k (row_k - mean),    w_k ~ N(0, 1 / K), the same in all blocks

Each block of diffusers' DiT has a table of its own.  A new class is one random mixture of the K known ones, so that its
rows have their spread, and suit each other from block to block.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

from dag_diffusion.classifiers.weights import require_filled
from dag_diffusion.data.class_names import matching_classes
from dag_diffusion.seeding import as_seed


def label_embedders(transformer: DiTTransformer2DModel) -> list[Any]:
    """What turns labels into conditioning, block by block; each has ``embedding_table`` and ``num_classes``."""
    return [block.norm1.emb.class_embedder for block in transformer.transformer_blocks]


def known_classes(wanted: Mapping[int, str], known: Mapping[int, str] | None) -> dict[int, int]:
    """Classes that a pipeline has under the same name, new label to old; none if it has no names.

    Args:
        wanted: label to class name, of the images.
        known: the same of the pipeline, its ``config.id2label``.
    """
    if not known:
        return {}
    return matching_classes(wanted, {int(label): name for label, name in known.items()}, "the pipeline")


@torch.no_grad()
def set_classes(
    transformer: DiTTransformer2DModel, count: int, kept: Mapping[int, int] | None = None, *, seed: int = 0
) -> None:
    """Give a transformer other classes, in place and in its configuration; the null class stays the last row.

    Args:
        count: of the new classes, labels 0 to ``count - 1``.
        kept: new label to the old one whose row it keeps; other classes get rows of their own.
        seed: of the rows that are drawn.

    Raises:
        ValueError: there is no class, or an old label that the transformer lacks.
        IncompleteWeightsError: a tensor of the transformer holds nothing, or NaN.
    """
    old, kept = transformer.config.num_embeds_ada_norm, dict(kept or {})
    if count < 1:
        raise ValueError(f"a generator cannot have {count} classes; give at least one class of images to learn from")
    if beyond := sorted(label for label in kept.values() if not 0 <= label < old):
        raise ValueError(
            f"the transformer has the classes 0 to {old - 1}, so that the row of {beyond[0]} cannot be kept"
        )
    noise = torch.randn(count, old, generator=torch.Generator().manual_seed(as_seed(seed))) / math.sqrt(old)
    for embedder in label_embedders(transformer):
        embedder.embedding_table = _table(embedder.embedding_table, noise, kept)
        embedder.num_classes = count
    transformer.register_to_config(num_embeds_ada_norm=count)
    require_filled(transformer, "the transformer with new classes")


def _table(old: nn.Embedding, noise: Tensor, kept: Mapping[int, int]) -> nn.Embedding:
    """A table of ``len(noise) + 1`` rows from one whose last row is the null class."""
    rows, null = old.weight[:-1].float(), old.weight[-1:].float()
    mean = rows.mean(0, keepdim=True)
    new = mean + noise.to(rows.device) @ (rows - mean)
    for label, before in kept.items():
        new[label] = rows[before]
    table = nn.Embedding(len(new) + 1, old.embedding_dim, _weight=torch.cat([new, null]).to(old.weight.dtype))
    return table.requires_grad_(old.weight.requires_grad)
