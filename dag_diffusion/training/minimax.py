"""Minimax: predicted clean latents are drawn near the real ones of their class, and made unlike each other.

    L_c = r (1 - min cos(x0, R_c)) + d max cos(x0, P_c)        added to the denoising loss, mean over classes of a batch

R_c are the last real latents of class c, P_c the last predicted ones; min and max are over all pairs of the batch's
predictions of the class with its memory (Gu et al. 2024, arXiv 2311.15529).  The least similar pair is drawn together
and the most similar one pushed apart, at every noise level alike.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from dag_diffusion.processes import gather, rank


class Memories:
    """The last latents of each class, real and predicted, as unit vectors; all processes have the same.

    Args:
        size: how many of each class and kind; 64 as published.
    """

    def __init__(self, size: int = 64) -> None:
        self.size = size
        self._kept: dict[tuple[str, int], Tensor] = {}

    def terms(self, predicted: Tensor, clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How far a batch is from the memories, which then take it in; 0 where a class has no memory yet.

        Several processes look at all of their shares as one batch.  Only the process that has the extreme pair of a
        class gives a term for it, so that gradients add up to those of one process.

        Args:
            predicted: ``(batch, ...)``, clean latents; what is returned is differentiable by them.
            clean: the same of the real ones.
            labels: ``(batch,)``, true classes, also of samples whose label was dropped.

        Returns:
            ``1 - min cos(x0, R_c)`` and ``max cos(x0, P_c)``, mean over the classes in the batch.
        """
        own, real = unit_vectors(predicted), unit_vectors(clean)
        with torch.no_grad():
            shares = gather((own.detach().cpu(), real.cpu(), labels.cpu()))
            shares = [tuple(part.to(own.device) for part in share) for share in shares]
        everyone = torch.cat([share[2] for share in shares])
        present, weight = everyone.unique().tolist(), len(everyone) / max(1, len(own))
        far, alike = own.new_zeros(()), own.new_zeros(())
        for label in present:
            if (rows := labels == label).any() and ("real", label) in self._kept:
                reals, before = (self._kept[kind, label].to(own.device) for kind in ("real", "predicted"))
                candidates = [share[0][share[2] == label] for share in shares]
                if _first_extreme([-(one @ reals.T) for one in candidates]) == rank():
                    far = far + 1 - (own[rows] @ reals.T).min()
                if _first_extreme([one @ before.T for one in candidates]) == rank():
                    alike = alike + (own[rows] @ before.T).max()
        self._remember(shares)
        return far * weight / len(present), alike * weight / len(present)

    def state_dict(self) -> dict[str, Tensor]:
        """All memories by name, for a checkpoint."""
        return {f"{kind}.{label}": kept for (kind, label), kept in self._kept.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave."""
        names = {name: name.rsplit(".", 1) for name in state}
        self._kept = {(kind, int(label)): state[name] for name, (kind, label) in names.items()}

    def _remember(self, shares: list[tuple[Tensor, ...]]) -> None:
        predicted, real, labels = (torch.cat(parts) for parts in zip(*shares, strict=True))
        for kind, vectors in (("real", real), ("predicted", predicted)):
            for label in labels.unique().tolist():
                old = self._kept.get((kind, label), vectors[:0]).to(vectors.device)
                self._kept[kind, label] = torch.cat([old, vectors[labels == label]])[-self.size :].clone()


def unit_vectors(latents: Tensor) -> Tensor:
    """``(batch, ...)`` as ``(batch, values)`` float32 of length 1."""
    return F.normalize(latents.flatten(1).float(), dim=1)


def _first_extreme(similarities: list[Tensor]) -> int:
    """Which of several shares has the largest value; the first of equal ones."""
    largest = [float(one.max()) if one.numel() else float("-inf") for one in similarities]
    return largest.index(max(largest))
