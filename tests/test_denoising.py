"""Losses of denoisers: that clean samples are diffusers' own, what minimax remembers, and the learnt variance."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given, settings
from hypothesis import strategies as st

from dag_diffusion.training.denoising import DenoisingLoss
from dag_diffusion.training.learned_variance import variance_bound
from dag_diffusion.training.minimax import Memories
from dag_diffusion.training.objectives import PREDICTIONS, Objective

SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero SNR": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
}
SHAPE = (4, 3, 2, 2)


def scheduler(schedule="cosine", prediction="v_prediction", kind=DDIMScheduler):
    return kind(**SCHEDULES[schedule], prediction_type=prediction, clip_sample=False)


def latents(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


timesteps = st.lists(st.integers(0, 999), min_size=4, max_size=4).map(torch.tensor)


@settings(max_examples=25)
@given(timesteps=timesteps, schedule=st.sampled_from(list(SCHEDULES)), seed=st.integers(0, 99))
def test_noise_and_velocity_are_those_of_diffusers(timesteps, schedule, seed):
    known, objective = scheduler(schedule, kind=DDPMScheduler), Objective()
    clean, noise, alphas = latents(seed), latents(seed + 100), known.alphas_cumprod[timesteps]
    torch.testing.assert_close(objective.noisy(clean, noise, alphas), known.add_noise(clean, noise, timesteps))
    torch.testing.assert_close(objective.wanted(clean, noise, alphas), known.get_velocity(clean, noise, timesteps))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@settings(max_examples=25)
@given(step=st.integers(0, 9), schedule=st.sampled_from(["linear", "cosine"]), seed=st.integers(0, 99))
def test_predicted_clean_sample_is_that_of_diffusers(prediction, step, schedule, seed):
    known = scheduler(schedule, prediction)
    known.set_timesteps(10)
    noisy, output, timestep = latents(seed), latents(seed + 100), known.timesteps[step]
    expected = known.step(output, timestep, noisy).pred_original_sample
    alphas = known.alphas_cumprod[timestep].expand(4)
    torch.testing.assert_close(Objective(prediction=prediction).clean(output, noisy, alphas), expected)


@settings(max_examples=25)
@given(timesteps=timesteps, schedule=st.sampled_from(list(SCHEDULES)), seed=st.integers(0, 99))
def test_perfect_denoiser_predicts_the_clean_sample_and_has_no_loss(timesteps, schedule, seed):
    known, objective = scheduler(schedule), Objective()
    clean, noise, alphas = latents(seed), latents(seed + 100), known.alphas_cumprod[timesteps]
    output = objective.wanted(clean, noise, alphas)
    found = objective.clean(output, objective.noisy(clean, noise, alphas), alphas)
    torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4)
    assert DenoisingLoss(objective, known)(lambda *_: output, clean, noise, timesteps, torch.zeros(4)) == 0


@settings(max_examples=25)
@given(timesteps=timesteps, schedule=st.sampled_from(["linear", "cosine"]), gamma=st.floats(0.5, 20))
def test_weights_are_min_snr_where_there_is_signal(timesteps, schedule, gamma):
    known = scheduler(schedule)
    alphas, snr = known.alphas_cumprod[timesteps], compute_snr(known, timesteps)
    least = torch.minimum(snr, torch.tensor(gamma))
    of_noise = Objective(prediction="epsilon", snr_gamma=gamma).weights(alphas)
    torch.testing.assert_close(of_noise, least / snr, rtol=1e-3, atol=1e-6)
    signal, of_velocity = alphas > 0.01, Objective(snr_gamma=gamma).weights(alphas)
    torch.testing.assert_close(of_velocity[signal], (least / (snr + 1))[signal], rtol=1e-3, atol=1e-6)


def test_every_timestep_of_a_schedule_without_signal_at_its_end_is_trained():
    assert float(Objective().weights(scheduler("zero SNR").alphas_cumprod).min()) > 0


@pytest.mark.parametrize(
    ("schedule", "prediction", "told"),
    [("zero SNR", "epsilon", "prediction_type='v_prediction'"), ("linear", "v_prediction", "make them one")],
)
def test_schedulers_that_the_objective_does_not_fit_are_refused(schedule, prediction, told):
    with pytest.raises(ValueError, match=told):
        DenoisingLoss(Objective(prediction=prediction), scheduler(schedule, "epsilon"))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"kind": "adversarial"}, "denoising, minimax"), ({"sparsity": -1}, "at least 0"), ({"memory": 0}, "at least 1")],
)
def test_impossible_terms_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        Objective(**options)


def test_sparsity_adds_the_mean_absolute_value_of_the_predicted_clean_sample():
    known, steps = scheduler(), torch.tensor([10, 300, 600, 900])
    clean, noise, output = latents(0), latents(1), latents(2)
    plain, sparse = (
        DenoisingLoss(Objective(sparsity=weight), known)(lambda *_: output, clean, noise, steps, torch.zeros(4))
        for weight in (0.0, 0.5)
    )
    alphas = known.alphas_cumprod[steps]
    predicted = Objective().clean(output, Objective().noisy(clean, noise, alphas), alphas)
    torch.testing.assert_close(sparse - plain, 0.5 * predicted.abs().mean())


# -- minimax


def test_first_batch_of_a_class_has_no_minimax_term():
    memories = Memories()
    labels = torch.tensor([0, 0, 1, 1])
    assert memories.terms(latents(0), latents(1), labels) == (0, 0)
    far, alike = memories.terms(latents(2), latents(3), labels)
    assert float(far) > 0
    assert float(alike) != 0


def test_minimax_terms_are_those_of_the_extreme_pairs():
    memories, labels = Memories(), torch.tensor([0, 0, 1, 1])
    reals, before, predicted = latents(1), latents(0), latents(2)
    memories.terms(before, reals, labels)
    far, alike = memories.terms(predicted, latents(3), labels)
    cosine = torch.nn.functional.cosine_similarity
    pairs = {label: [(i, j) for i in range(4) for j in range(4) if labels[i] == labels[j] == label] for label in (0, 1)}
    flat = {"real": reals.flatten(1), "before": before.flatten(1), "predicted": predicted.flatten(1)}
    least = [min(cosine(flat["predicted"][i], flat["real"][j], 0) for i, j in pairs[c]) for c in (0, 1)]
    most = [max(cosine(flat["predicted"][i], flat["before"][j], 0) for i, j in pairs[c]) for c in (0, 1)]
    torch.testing.assert_close(far, 1 - sum(least) / 2)
    torch.testing.assert_close(alike, sum(most) / 2)


def test_only_the_extreme_pairs_are_moved():
    memories, labels = Memories(), torch.zeros(4, dtype=torch.long)
    memories.terms(latents(0), latents(1), labels)
    predicted = latents(2).requires_grad_()
    far, alike = memories.terms(predicted, latents(3), labels)
    (gradient,) = torch.autograd.grad(far, predicted, retain_graph=True)
    assert (gradient.flatten(1).abs().sum(1) > 0).sum() == 1
    (gradient,) = torch.autograd.grad(alike, predicted)
    assert (gradient.flatten(1).abs().sum(1) > 0).sum() == 1


@settings(max_examples=25)
@given(batches=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=6))
def test_memories_are_the_last_of_each_class(batches):
    memories, seen = Memories(4), {0: [], 1: [], 2: []}
    for number, labels in enumerate(batches):
        real = latents(number, (len(labels), 6))
        memories.terms(latents(number + 50, (len(labels), 6)), real, torch.tensor(labels))
        for label, one in zip(labels, real, strict=True):
            seen[label].append(one / one.norm())
    state = memories.state_dict()
    for label, rows in seen.items():
        if rows:
            torch.testing.assert_close(state[f"real.{label}"], torch.stack(rows[-4:]))
            assert len(state[f"predicted.{label}"]) == min(4, len(rows))


def test_restored_memories_give_the_same_terms():
    first, second, labels = Memories(), Memories(), torch.tensor([0, 2, 2, 0])
    first.terms(latents(0), latents(1), labels)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    assert first.terms(latents(2), latents(3), labels) == second.terms(latents(2), latents(3), labels)


def test_shares_of_several_processes_have_the_terms_of_one(monkeypatch):
    labels = torch.tensor([0, 1, 0, 1])
    parts = [slice(0, 2), slice(2, 4)]
    whole = Memories()
    whole.terms(latents(0), latents(1), labels)
    units = [torch.nn.functional.normalize(latents(seed).flatten(1), dim=1) for seed in (2, 3)]
    everyone = [(units[0][rows], units[1][rows], labels[rows]) for rows in parts]
    found = []
    for process, rows in enumerate(parts):
        shared = Memories()
        shared.load_state_dict(whole.state_dict())
        with monkeypatch.context() as patch:
            patch.setattr("dag_diffusion.training.minimax.gather", lambda _: everyone)
            patch.setattr("dag_diffusion.training.minimax.rank", lambda process=process: process)
            found.append([float(x) / 2 for x in shared.terms(latents(2)[rows], latents(3)[rows], labels[rows])])
        known = shared.state_dict()
    expected = [float(x) for x in whole.terms(latents(2), latents(3), labels)]
    assert [sum(values) for values in zip(*found, strict=True)] == pytest.approx(expected)
    assert all(torch.equal(known[name], tensor) for name, tensor in whole.state_dict().items())


def test_minimax_computes_in_full_precision_under_autocast():
    objective = DenoisingLoss(Objective(kind="minimax"), scheduler())
    labels, steps = torch.zeros(4, dtype=torch.long), torch.tensor([10, 300, 600, 900])
    with torch.autocast("cpu", torch.bfloat16):
        losses = [objective(lambda x, t: x, latents(i), latents(i + 9), steps, labels) for i in (0, 1)]
    assert all(loss.dtype == torch.float32 for loss in losses)
    assert all(tensor.dtype == torch.float32 for tensor in objective.state_dict().values())


# -- learnt variance


@settings(max_examples=25)
@given(timesteps=timesteps, schedule=st.sampled_from(["linear", "cosine"]))
def test_variance_of_the_posterior_is_what_a_perfect_denoiser_learns(timesteps, schedule):
    alphas = scheduler(schedule).alphas_cumprod
    right = variance_bound(torch.full(SHAPE, -1.0), torch.zeros(SHAPE), timesteps, alphas)
    torch.testing.assert_close(right, torch.zeros(4), atol=1e-5, rtol=0)
    wrong = variance_bound(torch.full(SHAPE, 1.0), torch.zeros(SHAPE), timesteps, alphas)
    assert (wrong >= 0).all()


def test_error_of_the_mean_calls_for_more_variance_and_trains_the_variance_alone():
    alphas, steps = scheduler("linear").alphas_cumprod, torch.tensor([5, 20, 50, 100])
    output = torch.full(SHAPE, -1.0, requires_grad=True)
    error = torch.full(SHAPE, 3.0, requires_grad=True)
    variance_bound(output, error, steps, alphas).sum().backward()
    assert (output.grad < 0).all()
    assert error.grad is None


def test_denoiser_with_learnt_variance_has_the_bound_in_its_loss():
    known, steps = scheduler("linear", "epsilon"), torch.tensor([5, 20, 50, 100])
    clean, noise, output = latents(0), latents(1), latents(2)
    objective, labels = DenoisingLoss(Objective(prediction="epsilon"), known), torch.zeros(4)
    plain = objective(lambda *_: output, clean, noise, steps, labels)
    both = objective(lambda *_: torch.cat([output, latents(3)], 1), clean, noise, steps, labels)
    assert float(both) > float(plain)
