"""The loss of a denoiser by an objective: squared error, and what is asked of predicted clean latents besides.

    loss  [+ bound of the learnt variance]  [+ minimax terms]  [+ s mean |x0|]

The last term makes clean latents sparse, and so what is learnt simpler than the real images (Xu et al. 2026).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .learned_variance import variance_bound
from .minimax import Memories
from .objectives import Objective

Predict = Callable[[Tensor, Tensor], Tensor]


class DenoisingLoss:
    """The loss of batches, and what it remembers between them, for ``fit(..., state=...)``.

    Args:
        scheduler: the one that will sample, with ``alphas_cumprod``.

    Raises:
        ValueError: the scheduler takes another prediction, or asks for one that cannot be had.
    """

    def __init__(self, objective: Objective, scheduler: Any) -> None:
        self.objective, self.alphas = objective, scheduler.alphas_cumprod.float()
        self.memories = Memories(objective.memory) if objective.kind == "minimax" else None
        if (known := scheduler.config.prediction_type) != objective.prediction:
            raise ValueError(
                f"the scheduler takes {known!r} and the objective is to predict {objective.prediction!r}; make them one"
            )
        if known == "epsilon" and self.alphas.min() <= 0:
            raise ValueError(
                "noise says nothing of an image where there is no signal, as at this schedule's end; use "
                "prediction_type='v_prediction', or rescale_betas_zero_snr=False"
            )

    def __call__(self, predict: Predict, clean: Tensor, noise: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar; float32 also where autocast lets ``predict`` compute in bfloat16.

        Args:
            predict: the denoiser's output ``(batch, channels or twice as many, height, width)`` for noisy latents and
                timesteps.
            clean, noise: ``(batch, channels, height, width)`` float32.
            timesteps: ``(batch,)`` int64; half precision would round them.
            labels: ``(batch,)``, true classes, also of samples whose label ``predict`` drops.
        """
        self.alphas = self.alphas.to(clean.device)
        alphas = self.alphas[timesteps]
        noisy = self.objective.noisy(clean, noise, alphas)
        output = predict(noisy, timesteps)
        with torch.autocast(clean.device.type, enabled=False):
            output, variance = output.float().tensor_split([clean.shape[1]], dim=1)
            loss = self.objective.loss(output, clean, noise, alphas).mean()
            predicted = self.objective.clean(output, noisy, alphas)
            if variance.shape[1]:
                loss = loss + variance_bound(variance, predicted - clean, timesteps, self.alphas).mean()
            return loss + self._regularisers(predicted, clean, labels)

    def _regularisers(self, predicted: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        """What is asked of predicted clean latents besides being right."""
        asked, added = self.objective, predicted.new_zeros(())
        if self.memories is not None:
            far, alike = self.memories.terms(predicted, clean, labels)
            added = added + asked.representativeness * far + asked.diversity * alike
        return added + asked.sparsity * predicted.abs().mean() if asked.sparsity else added

    def state_dict(self) -> dict[str, Tensor]:
        """What is remembered from step to step."""
        return {} if self.memories is None else self.memories.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what an earlier run remembered."""
        if self.memories is not None:
            self.memories.load_state_dict(state)
