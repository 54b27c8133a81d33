import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.training.objectives import PREDICTIONS, Objective

GENERATOR = torch.Generator().manual_seed(0)
CLEAN, NOISE = torch.randn(2, 5, 4, 3, 3, generator=GENERATOR)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_scheduler_finds_the_clean_image_in_what_is_wanted(prediction):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False)
    objective = Objective(prediction=prediction)
    for timestep in (0, 500, 999):
        alphas = scheduler.alphas_cumprod[timestep].expand(len(CLEAN))
        noisy, wanted = objective.noisy(CLEAN, NOISE, alphas), objective.wanted(CLEAN, NOISE, alphas)
        scheduler.set_timesteps(1000)
        found = scheduler.step(wanted, timestep, noisy).pred_original_sample
        torch.testing.assert_close(found, CLEAN, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(noisy, scheduler.add_noise(CLEAN, NOISE, torch.full((5,), timestep)))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(alpha=st.floats(0, 1), gamma=st.floats(0, 20))
def test_weights_are_finite_and_never_negative(prediction, alpha, gamma):
    weights = Objective(prediction=prediction, snr_gamma=gamma).weights(torch.tensor([alpha]))
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert (weights <= 1).all()


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.7, 0.99])
def test_both_predictions_weigh_an_error_of_the_clean_image_alike(alpha):
    alphas = torch.full((5,), alpha)
    off = 0.1  # of the predicted clean image
    losses = []
    for prediction in PREDICTIONS:
        objective = Objective(prediction=prediction)
        error = off / (1 - alpha) ** 0.5 if prediction == "v_prediction" else off * (alpha / (1 - alpha)) ** 0.5
        losses.append(objective.loss(objective.wanted(CLEAN, NOISE, alphas) + error, CLEAN, NOISE, alphas))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(losses[0], torch.full((5,), min(alpha / (1 - alpha), 5) * off**2), atol=1e-5, rtol=1e-3)


def test_without_gamma_all_errors_count_alike():
    assert torch.equal(Objective(snr_gamma=0).weights(torch.tensor([0.0, 0.5, 1.0])), torch.ones(3))


@pytest.mark.parametrize("wrong", [{"prediction": "sample"}, {"snr_gamma": -1.0}, {"snr_gamma": float("nan")}])
def test_unknown_objectives_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Objective(**wrong)
