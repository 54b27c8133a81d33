"""What a denoiser is asked for, and how much an error counts at each timestep.

    noisy = sqrt(a) clean + sqrt(1 - a) noise        v = sqrt(a) noise - sqrt(1 - a) clean        snr = a / (1 - a)
    loss = mean of weight * (predicted - wanted)^2,  weight = min(snr, gamma) / (snr + 1) for v, / snr for noise

Weights by the signal-to-noise ratio after Hang et al. (2023).  Knows tensors only: no files, no loop; ``denoising``
adds what is asked of predicted clean latents besides.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dag_diffusion.guidance.difficulty_guidance import predicted_clean

PREDICTIONS = ("v_prediction", "epsilon")
KINDS = ("denoising", "minimax")
LEAST_WEIGHT = 0.01  # without signal v would count 0, so that the first step of sampling would never be trained


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is predicted, and the weights.

    Attributes:
        prediction: v_prediction or epsilon, which the scheduler has to know as its prediction type.
        snr_gamma: signal-to-noise ratio from which on errors of the clean image count alike; 0: all errors
            of what is predicted count alike.
        kind: denoising, or minimax, which also draws predicted latents to the real ones of their class and apart from
            each other.
        representativeness: weight of the distance to real latents, for minimax.
        diversity: weight of the similarity of predicted latents, for minimax.
        memory: latents of each class that minimax compares with.
        sparsity: weight of the mean absolute value of predicted clean latents, which makes them simpler; 0 leaves it
            out.
    """

    prediction: str = "v_prediction"
    snr_gamma: float = 5.0
    kind: str = "denoising"
    representativeness: float = 0.002
    diversity: float = 0.008
    memory: int = 64
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"there is no prediction {self.prediction!r}; choose one of {', '.join(PREDICTIONS)}")
        if not self.snr_gamma >= 0:
            raise ValueError(f"snr_gamma is {self.snr_gamma}; give 5, as usual, or 0 to weigh all timesteps alike")
        if self.kind not in KINDS:
            raise ValueError(f"there is no objective {self.kind!r}; choose one of {', '.join(KINDS)}")
        for name in ("representativeness", "diversity", "sparsity"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; a weight is at least 0, and 0 leaves its term out")
        if self.memory < 1:
            raise ValueError(f"memory is {self.memory}; minimax compares with at least 1 latent of a class, usually 64")

    def noisy(self, clean: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
        """What the denoiser sees, like ``clean``, ``(n, channels, height, width)``.

        Args:
            alphas: ``(n,)`` cumulative signal rates in [0, 1], ``scheduler.alphas_cumprod[timesteps]``.
        """
        alphas = _over_images(alphas)
        return alphas.sqrt() * clean + (1 - alphas).sqrt() * noise

    def wanted(self, clean: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
        """What the denoiser should predict, like ``clean``."""
        alphas = _over_images(alphas)
        return noise if self.prediction == "epsilon" else alphas.sqrt() * noise - (1 - alphas).sqrt() * clean

    def clean(self, predicted: Tensor, noisy: Tensor, alphas: Tensor) -> Tensor:
        """The clean latents that a prediction for noisy ones stands for."""
        return predicted_clean(predicted, noisy, _over_images(alphas), self.prediction)

    def weights(self, alphas: Tensor) -> Tensor:
        """How much the squared error of each image counts, ``(n,)``, finite also where no signal is left."""
        if not self.snr_gamma:
            return torch.ones_like(alphas)
        if self.prediction == "epsilon":  # min(snr, gamma) / snr, whose limit without signal is 1
            return (self.snr_gamma * (1 - alphas) / alphas.clamp(min=1e-9)).clamp(max=1)
        return torch.minimum(alphas.clamp(min=LEAST_WEIGHT), self.snr_gamma * (1 - alphas))  # 1 / (snr + 1) = 1 - a

    def loss(self, predicted: Tensor, clean: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
        """``(n,)`` float32, of each image."""
        error = predicted.float() - self.wanted(clean, noise, alphas)
        return self.weights(alphas) * error.square().flatten(1).mean(1)


def _over_images(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
