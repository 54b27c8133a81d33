"""Objectives and fine-tuning in the training loop: what a kill must not change."""

import pytest
import torch
from tiny import tiny_scheduler, tiny_transformer

from dag_diffusion.training.denoising import DenoisingLoss
from dag_diffusion.training.fine_tuning import FineTuningConfig, adapt
from dag_diffusion.training.loop import LoopConfig, fit
from dag_diffusion.training.objectives import Objective

COUNT, STEPS = 9, 6
LATENTS = torch.randn(COUNT, 4, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(COUNT) % 3
CONFIG = LoopConfig(steps=STEPS, batch_size=4, precision="float32", checkpoint_seconds=0, average_width=0.2)


class StoppedHereError(Exception):
    pass


def train(folder, tune="all", stop_after=None):
    """A tiny denoiser by minimax, in evaluation mode since diffusers drops labels otherwise."""
    transformer = tiny_transformer()
    adapt(transformer, FineTuningConfig(tune=tune, rank=2))
    objective = Objective(prediction="epsilon", kind="minimax", representativeness=1.0, diversity=1.0)
    denoising = DenoisingLoss(objective, tiny_scheduler())

    def loss(model, batch):
        clean, labels = LATENTS[batch.indices], LABELS[batch.indices]
        steps = batch.integers("timesteps", 1000)
        return denoising(
            lambda noisy, steps: model.eval()(noisy, timestep=steps, class_labels=labels).sample,
            clean,
            batch.normal("noise", 4, 8, 8),
            steps,
            labels,
        )

    def tell(stage, done, total):
        if done == stop_after:
            raise StoppedHereError

    fit(transformer, loss, COUNT, folder, CONFIG, state=denoising, progress=tell)
    return transformer.state_dict()


@pytest.mark.parametrize("tune", ["all", "lora", "difffit"])
def test_minimax_goes_on_with_what_it_remembered(tmp_path, tune):
    whole = train(tmp_path / "whole", tune)
    for stop in (1, 4):
        with pytest.raises(StoppedHereError):
            train(tmp_path / "stopped", tune, stop_after=stop)
    resumed = train(tmp_path / "stopped", tune)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
