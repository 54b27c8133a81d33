"""Rates of schedulers and the placement of shifts, against denoisers that are known in closed form.

A denoiser that knows one clean sample proves the rates.  That of a Gaussian mixture, whose class probabilities are
known, proves that guidance lands where it was asked, also when it stops early: the last call would hide a lost shift.
"""

import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SASolverScheduler,
    SCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig, difficulty_shift, predicted_clean
from dag_diffusion.guidance.guided_call import answer_parts, clean_sample, guided_call, moved, tells_clean
from dag_diffusion.guidance.mode_guidance import mode_delta, mode_shift
from dag_diffusion.guidance.rates import (
    FAMILIES,
    Rates,
    begin_anew,
    begins_step,
    count_steps,
    prediction_of,
    rates_of,
    require_family,
    signal_share,
)

KINDS = ("epsilon", "v_prediction", "sample", "flow_prediction", "trigflow")
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's
V, FLOW = {"prediction_type": "v_prediction"}, {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
KARRAS, CLEAN_END = {"use_karras_sigmas": True}, {"set_alpha_to_one": True}
DETERMINISTIC = {
    "DDIM": (DDIMScheduler, {"clip_sample": False} | LATENT),
    "DDIM, v, trailing": (DDIMScheduler, {"clip_sample": False, "timestep_spacing": "trailing"} | V | LATENT),
    "DDIM, sample": (DDIMScheduler, {"clip_sample": False, "prediction_type": "sample"} | LATENT),
    "PNDM": (PNDMScheduler, {"skip_prk_steps": True} | CLEAN_END | LATENT),
    "PNDM, Runge-Kutta": (PNDMScheduler, CLEAN_END | LATENT),
    "Euler": (EulerDiscreteScheduler, LATENT),
    "Euler, v, Karras": (EulerDiscreteScheduler, V | KARRAS | LATENT),
    "LMS": (LMSDiscreteScheduler, LATENT),
    "Heun": (HeunDiscreteScheduler, LATENT),
    "Heun, v": (HeunDiscreteScheduler, V | LATENT),
    "KDPM2": (KDPM2DiscreteScheduler, LATENT),
    "DPM++": (DPMSolverMultistepScheduler, LATENT),
    "DPM++ 3M, Karras": (DPMSolverMultistepScheduler, {"solver_order": 3} | KARRAS | LATENT),
    "DPM++, flow": (DPMSolverMultistepScheduler, {"flow_shift": 3.0} | FLOW),
    "DPM": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"} | LATENT),
    "DPM++ singlestep": (DPMSolverSinglestepScheduler, {"solver_order": 2} | LATENT),
    "UniPC": (UniPCMultistepScheduler, LATENT),
    "UniPC, v": (UniPCMultistepScheduler, V | LATENT),
    "UniPC, flow": (UniPCMultistepScheduler, {"flow_shift": 3.0} | FLOW),
    "DEIS": (DEISMultistepScheduler, LATENT),
    "flow Euler": (FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
    "flow Heun": (FlowMatchHeunDiscreteScheduler, {"shift": 3.0}),
}
STOCHASTIC = {
    "DDPM": (DDPMScheduler, {"clip_sample": False} | LATENT),
    "LCM": (LCMScheduler, LATENT),
    "TCD": (TCDScheduler, LATENT),
    "Euler ancestral": (EulerAncestralDiscreteScheduler, LATENT),
    "KDPM2 ancestral": (KDPM2AncestralDiscreteScheduler, LATENT),
    "DPM++ SDE": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"} | LATENT),
    "SA-Solver": (SASolverScheduler, LATENT),
    "flow Euler, stochastic": (FlowMatchEulerDiscreteScheduler, {"shift": 3.0, "stochastic_sampling": True}),
    "flow LCM": (FlowMatchLCMScheduler, {"shift": 3.0}),
    "SCM": (SCMScheduler, {}),
}
ALL = DETERMINISTIC | STOCHASTIC
DIMENSIONS, DEVIATION = 8, 1.0
CENTRES = torch.zeros(2, DIMENSIONS, dtype=torch.float64)
CENTRES[0, 0], CENTRES[1, 0] = 1.0, -1.0  # the margin of the first class is 2 x_0


def scheduler_named(name: str, steps: int):
    """A scheduler that is ready for its first call, and how many calls it wants."""
    kind, options = ALL[name]
    scheduler = kind(**options)
    scheduler.set_timesteps(steps, **({"intermediate_timesteps": None} if name == "SCM" else {}))
    if name == "SCM":  # its last timestep is where the last call leads
        scheduler.set_begin_index(0)
        return scheduler, len(scheduler.timesteps) - 1
    return scheduler, len(scheduler.timesteps)


def answer_of(scheduler, sample, clean, rates):
    """What a denoiser that means ``clean`` answers."""
    c, b = answer_parts(prediction_of(scheduler), rates)
    return c * clean + b * noise_of(sample, clean, rates)


def noise_of(sample, clean, rates):
    return (sample - rates.signal * clean) / rates.noise


def expected_clean(sample, rates):
    """E[x0 | x] of the mixture of two classes around ``CENTRES``."""
    variance = (rates.signal * DEVIATION) ** 2 + rates.noise**2
    apart = sample[:, None] - rates.signal * CENTRES
    weights = (-apart.square().sum(2) / (2 * variance)).softmax(1)
    return (weights[..., None] * (CENTRES + rates.signal * DEVIATION**2 / variance * apart)).sum(1)


def margin_of(clean):
    return 2 * clean[:, 0] / DEVIATION**2


def start(rates, images):
    noise = torch.randn(images, DIMENSIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noise * math.hypot(rates.signal * DEVIATION, rates.noise)


def drawn(name: str, steps: int, targets: torch.Tensor, stop: float):
    """Difficulties of images that the mixture's own denoiser draws, steered in the first ``stop`` of the steps."""
    torch.manual_seed(0)
    scheduler, calls = scheduler_named(name, steps)
    config = GuidanceConfig(stop=stop, max_norm=1e6)
    guided, step, sample = config.steps(count_steps(scheduler, calls)), 0, None

    def shift_of(clean, rates):
        return difficulty_shift(clean, margin_of, targets, config).delta

    for timestep in scheduler.timesteps[:calls]:
        rates = rates_of(scheduler, timestep)
        sample = start(rates, len(targets)) if sample is None else sample.double()
        answer = answer_of(scheduler, sample, expected_clean(sample, rates), rates)
        begins = begins_step(scheduler)
        if begins and step in guided:
            answer, sample = guided_call(scheduler, answer, timestep, sample, shift_of)
        elif begins and step - 1 in guided:
            begin_anew(scheduler)
        sample, step = scheduler.step(answer, timestep, sample)[0], step + begins
    assert step == count_steps(scheduler, calls)
    return torch.sigmoid(-margin_of(sample / scheduler.config.get("sigma_data", 1.0)))


# -- rates


@pytest.mark.parametrize("name", ALL)
def test_rates_tell_signal_and_noise_of_every_sample(name):
    torch.manual_seed(0)
    scheduler, calls = scheduler_named(name, 10)
    clean, noise = torch.randn(2, 3, DIMENSIONS, dtype=torch.float64)
    sample = None
    for timestep in scheduler.timesteps[:calls]:
        rates = rates_of(scheduler, timestep)
        sample = rates.signal * clean + rates.noise * noise if sample is None else sample
        answer = answer_of(scheduler, sample, clean, rates)
        found = clean_sample(answer, sample, rates, prediction_of(scheduler))
        assert torch.allclose(found.double(), clean, atol=1e-4)
        sample = scheduler.step(answer, timestep, sample)[0].double()
        if name in DETERMINISTIC:
            assert torch.allclose(sample, rates.next_signal * clean + rates.next_noise * noise, atol=2e-3)
    assert rates.next_noise < 0.05  # some end a little noisy, by their configurations


def test_every_known_scheduler_is_tested():
    tested = {kind.__name__ for kind, _ in ALL.values()}
    assert tested == {name for name in FAMILIES if "Parallel" not in name}  # which are the same for many samples


@pytest.mark.parametrize("name", ["DDIM", "DDPM"])
def test_share_of_signal_is_the_schedulers_own_to_the_bit(name):
    scheduler, _ = scheduler_named(name, 1000)
    rates = (rates_of(scheduler, timestep) for timestep in scheduler.timesteps)
    found = torch.tensor([signal_share(each.signal, each.noise) for each in rates])
    assert torch.equal(found, scheduler.alphas_cumprod.flip(0))


@pytest.mark.parametrize("name", ALL)
def test_asking_for_rates_changes_nothing(name):
    scheduler, _ = scheduler_named(name, 10)
    before = {key: str(value) for key, value in vars(scheduler).items()}
    rates_of(scheduler, scheduler.timesteps[0])
    assert {key: str(value) for key, value in vars(scheduler).items()} == before


@pytest.mark.parametrize(
    "name", [name for name in DETERMINISTIC if name.startswith(("DPM++", "UniPC", "DEIS")) and "single" not in name]
)
def test_solver_that_begins_anew_has_forgotten_what_it_was_told_before(name):
    clean, noise = torch.randn(2, 3, DIMENSIONS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    returned = []
    for before in (clean, 5 * clean):
        scheduler, _ = scheduler_named(name, 12)
        for index, timestep in enumerate(scheduler.timesteps[:6]):
            rates = rates_of(scheduler, timestep)
            believed = clean if index == 5 else before
            sample = rates.signal * believed + rates.noise * noise
            if index == 5:
                begin_anew(scheduler)
            sample = scheduler.step(answer_of(scheduler, sample, believed, rates), timestep, sample)[0]
        returned.append(sample)
    assert torch.equal(*returned)


# -- closed loop


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_guidance_that_stops_early_lands_on_the_asked_difficulty(name):
    targets = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).repeat(4)
    found = drawn(name, 25, targets, stop=0.8)
    assert (found - targets).abs().max() < 0.1
    assert (found - targets).abs().mean() < 0.05


@pytest.mark.parametrize("name", STOCHASTIC)
def test_guidance_that_stops_early_lands_around_the_asked_difficulty_where_noise_follows(name):
    targets = torch.tensor([0.1, 0.3, 0.7, 0.9]).repeat(100)
    found, asked = (torch.logit(1 - difficulties) for difficulties in (drawn(name, 25, targets, stop=0.8), targets))
    arrived = float((found * asked).mean() / asked.square().mean())
    # the consistency samplers draw all of their noise anew, so that the denoiser forgets a part at each call
    assert 0.7 < arrived < 1.1


@pytest.mark.parametrize("name", ALL)
def test_guidance_to_the_last_step_lands_on_the_asked_difficulty(name):
    targets = torch.tensor([0.1, 0.5, 0.9]).repeat(4)
    assert (drawn(name, 12, targets, stop=1.0) - targets).abs().max() < 0.06


# -- answers


def of_shape(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.sampled_from(KINDS), st.floats(0.02, 1), st.floats(0.02, 20), st.integers(0, 100))
def test_moved_state_means_the_shifted_clean_sample_and_the_same_noise(kind, signal, noise, seed):
    rates = Rates(signal, noise, 1.0, 0.0)
    answer, sample, delta = of_shape(3, 2, 4, 3, 3, seed=seed).double()
    states = (answer, sample), moved(answer, sample, delta, rates, kind)
    before, after = (clean_sample(*each, rates, kind) for each in states)
    size = (signal**2 + noise**2) ** 0.5 / signal
    assert torch.allclose(after - before, delta.float(), atol=1e-4 * size)
    kept, still = (noise_of(each, clean, rates) for (_, each), clean in zip(states, (before, after), strict=True))
    assert torch.allclose(kept, still, atol=1e-3 * size)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_pull_to_a_mode_before_a_step_is_that_after_it(kind):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=kind, **LATENT)
    scheduler.set_timesteps(10)
    for timestep in scheduler.timesteps[:-1]:  # the last is not pulled
        answer, sample, modes = of_shape(3, 2, 4, 3, 3)
        rates = rates_of(scheduler, timestep)
        now, after = signal_share(*rates[:2]), signal_share(*rates[2:])
        clean = predicted_clean(answer, sample, now, kind)
        delta = mode_delta(clean, modes, now, after, 0.1)
        before, unmoved = (
            scheduler.step(said, timestep, given).prev_sample
            for said, given in (moved(answer, sample, delta, rates, kind), (answer, sample))
        )
        pull = mode_shift(clean, modes, now, after, 0.1)
        assert pull.any()
        torch.testing.assert_close(before - unmoved, pull, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_learned_variance_is_handed_on_and_does_not_count(kind):
    rates, answer, sample = Rates(0.6, 0.8, 1.0, 0.0), of_shape(2, 8, 3, 3), of_shape(2, 4, 3, 3)
    said, _ = moved(answer, sample, torch.ones(2, 4, 3, 3), rates, kind)
    assert torch.equal(said[:, 4:], answer[:, 4:])
    assert torch.equal(clean_sample(answer, sample, rates, kind), clean_sample(answer[:, :4], sample, rates, kind))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_given_back_and_the_shift_is_not_lost_in_it(dtype):
    rates, sample = Rates(1.0, 2.0, 1.0, 1.0), of_shape(2, 4, 8, 8).to(dtype)
    shift = 0.3 * of_shape(2, 4, 8, 8, seed=1)
    for after in moved(sample, sample, shift, rates, "sample"):
        assert after.dtype == dtype
        along = ((after.float() - sample.float()) * shift).sum() / shift.square().sum()
        assert along == pytest.approx(1, abs=0.01)


def test_sample_whose_shift_would_overflow_stays_as_it_is():
    sample, delta = torch.ones(2, 4, dtype=torch.float16), torch.tensor([[1e6], [0.5]]).expand(2, 4)
    for after in moved(sample, sample, delta, Rates(1.0, 2.0, 1.0, 1.0), "sample"):
        assert torch.equal(after, torch.tensor([[1.0], [1.5]], dtype=torch.float16).expand(2, 4))


def test_answer_without_any_signal_is_left_alone():
    scheduler = DDIMScheduler(clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    first = scheduler.timesteps[0]
    assert not tells_clean("epsilon", rates_of(scheduler, first))
    assert tells_clean("v_prediction", rates_of(scheduler, first))


def test_prediction_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="knows epsilon"):
        answer_parts("score", Rates(0.6, 0.8, 1.0, 0.0))


# -- refusals


@pytest.mark.parametrize(
    ("scheduler", "told"),
    [
        (EDMEulerScheduler(), "EDMEulerScheduler is not supported.*FlowMatchEulerDiscreteScheduler"),
        (DDIMScheduler(), "clip_sample=False"),
        (UniPCMultistepScheduler(thresholding=True), "thresholding=False"),
        (DPMSolverMultistepScheduler(prediction_type="flow_prediction"), "use_flow_sigmas=True"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scheduler_that_would_go_wrong_is_refused_with_a_way_out(scheduler, told):
    with pytest.raises(ValueError, match=told):
        require_family(scheduler)


def test_subclass_of_a_known_scheduler_is_known():
    class Own(EulerDiscreteScheduler):
        pass

    require_family(Own())
