"""The variance that some denoisers learn beside the noise, DiT-XL/2 among them (Nichol and Dhariwal 2021).

    log s^2 = u log beta_t + (1 - u) log beta~_t,    u = (output + 1) / 2
    KL( q(x_{t-1} | x_t, x0) || N(mean of the predicted x0, s^2) ),    in bits, the mean held fast

Without this bound the variance channels would drift while a denoiser is fine-tuned, and DDPM samples by them.
"""

import math

import torch
from torch import Tensor


def variance_bound(output: Tensor, error: Tensor, timesteps: Tensor, alphas: Tensor) -> Tensor:
    """The bound of each sample, which trains the variance alone.

    Args:
        output: ``(batch, channels, height, width)``, the second half of the denoiser's channels.
        error: predicted minus real clean latents, of the same shape.
        timesteps: ``(batch,)`` int64.
        alphas: ``(timesteps,)``, cumulative signal rates.

    Returns:
        ``(batch,)``, bits a value; 0 where nothing was to be learnt.
    """
    before = torch.cat([alphas.new_ones(1), alphas[:-1]])
    betas = 1 - alphas / before
    posterior = betas * (1 - before) / (1 - alphas)
    posterior = torch.cat([posterior[1:2], posterior[1:]])  # at the first step it is 0, and has no logarithm
    share = betas * before.sqrt() / (1 - alphas)  # of the clean latents in the mean
    wide, narrow, share = (x[timesteps].view(-1, 1, 1, 1) for x in (betas.log(), posterior.log(), share))
    fraction = (output + 1) / 2
    log_variance = fraction * wide + (1 - fraction) * narrow
    squared = (share * error.detach()).square()
    bound = log_variance - narrow - 1 + (narrow - log_variance).exp() + squared * (-log_variance).exp()
    return 0.5 * bound.flatten(1).mean(1) / math.log(2)
