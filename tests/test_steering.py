"""``steer``: pipelines of every kind, drawn by their own loops, become as hard as asked and stay as they were."""

import inspect
import logging
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from diffusers.utils import BaseOutput
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from text_pipelines import (
    FlowTransformerPipeline,
    flux,
    kl,
    made,
    pixart_sigma,
    qwen_image,
    sana,
    sana_sprint,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    tiny_decoder,
    z_image,
)
from tiny import NAMES, PREPROCESSING, tiny_classifier, tiny_transformer
from transformers import ResNetForImageClassification, ViTImageProcessor

from dag_diffusion import GuidanceConfig, Steered, read_pool, score_pool, steer
from dag_diffusion.loading import load_embedded_pipeline
from dag_diffusion.pipelines.denoiser_answers import class_direction

PROMPTS = "a bag", "a coat"  # some pipelines write into the list that they are given
LABELS = [0, 1]  # the guide of random weights finds nothing that is its third class
WIDE = GuidanceConfig(max_norm=4.0)  # decoders of random weights are less steep than trained ones
SMALL = {"height": 16, "width": 16}
CALLS = {
    stable_diffusion: SMALL,
    stable_diffusion_xl: SMALL,
    stable_diffusion_3: SMALL,
    flux: {"height": 16, "width": 24},  # packed latents do not tell which of the two is longer
    pixart_sigma: SMALL | {"use_resolution_binning": False, "clean_caption": False},
    sana: {"height": 32, "width": 32, "use_resolution_binning": False, "complex_human_instruction": None},
    sana_sprint: {"height": 32, "width": 32, "use_resolution_binning": False, "complex_human_instruction": None},
    z_image: SMALL | {"guidance_scale": 2.0},
    qwen_image: {"height": 32, "width": 48, "negative_prompt": ["", ""], "true_cfg_scale": 2.0},
}
EVERY_KIND = pytest.mark.parametrize("build", CALLS, ids=lambda build: build.__name__)


@pytest.fixture(scope="module")
def guide():
    return tiny_classifier()


def drawn(pipeline, build, output_type="pt", steps=10, **changes):
    steps = 2 if build is sana_sprint else steps
    options = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(0), "output_type": output_type}
    return pipeline(list(PROMPTS), **(options | CALLS[build] | changes)).images


def difficulties(pipeline, guide, target, draw, config=WIDE):
    with steer(pipeline, guide, LABELS, target, config=config) as steered:
        return steered.measure(draw())


# -- pipelines


@EVERY_KIND
def test_without_a_target_no_bit_changes(build, guide):
    pipeline = made(build)
    plain = drawn(pipeline, build, steps=4)
    with steer(pipeline, guide, LABELS):
        assert torch.equal(drawn(pipeline, build, steps=4), plain)


@EVERY_KIND
def test_guide_sees_the_latents_as_the_pipeline_decodes_them(build, guide):
    pipeline = made(build)
    with steer(pipeline, guide, LABELS) as steered, torch.no_grad():
        images, latents = (drawn(pipeline, build, output_type, steps=2) for output_type in ("pt", "latent"))
        assert torch.allclose(steered.decode(latents).clamp(0, 1), images, atol=1e-5)


@EVERY_KIND
def test_images_become_as_hard_as_asked(build, guide):
    pipeline, targets = made(build), torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    config = GuidanceConfig(max_norm=4.0, stop=1.0 if build is sana_sprint else 0.9)  # Sprint has two steps in all

    def of(target):
        return difficulties(pipeline, guide, target, lambda: drawn(pipeline, build, steps=20), config)

    unguided, found = of(None), torch.stack([of(target) for target in targets])
    assert found[0, 0] < found[1, 0]
    assert found[1, 1] < found[0, 1]
    assert (found - targets).abs().mean() < 0.8 * (unguided - targets).abs().mean()
    if build not in (sana_sprint, qwen_image):  # whose decoders of random weights are far from linear
        assert (found - targets).abs().max() < 0.15


@pytest.mark.parametrize(
    "scheduler",
    [
        DDPMScheduler(clip_sample=False),
        DPMSolverMultistepScheduler(use_karras_sigmas=True),
        EulerDiscreteScheduler(),
        EulerAncestralDiscreteScheduler(),
        HeunDiscreteScheduler(),
        LCMScheduler(),
        PNDMScheduler(skip_prk_steps=True),
        UniPCMultistepScheduler(),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
@pytest.mark.parametrize("build", [stable_diffusion, stable_diffusion_xl], ids=lambda build: build.__name__)
def test_images_become_as_hard_as_asked_with_every_scheduler_that_is_used(build, scheduler, guide):
    pipeline = made(build)
    pipeline.scheduler = type(scheduler).from_config(scheduler.config)
    targets = torch.tensor([0.8, 0.3])
    found = difficulties(pipeline, guide, targets, lambda: drawn(pipeline, build))
    assert (found - targets).abs().max() < 0.15


@pytest.mark.parametrize("scheduler", [DDIMScheduler, PNDMScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler])
@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (stable_diffusion, StableDiffusionImg2ImgPipeline),
        (stable_diffusion_xl, StableDiffusionXLImg2ImgPipeline),
    ],
    ids=["stable_diffusion", "stable_diffusion_xl"],
)
def test_images_made_from_images_become_as_hard_as_asked(build, kind, scheduler, guide):
    pipeline, targets = made(build, kind), torch.tensor([0.8, 0.3])
    options = {"skip_prk_steps": True} if scheduler is PNDMScheduler else {}
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, clip_sample=False, **options)
    images = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))] * 2

    def draw():
        generator = torch.Generator().manual_seed(0)
        options = {"strength": 0.5, "num_inference_steps": 16, "generator": generator, "output_type": "pt"}
        return pipeline(list(PROMPTS), image=images, **options).images

    assert (difficulties(pipeline, guide, targets, draw) - targets).abs().max() < 0.15


def test_pipeline_that_a_user_has_built_of_a_flow_matching_transformer_is_steered(guide):
    pipeline = made(lambda: FlowTransformerPipeline(tiny_transformer(), kl(), FlowMatchEulerDiscreteScheduler()))
    targets = torch.tensor([0.8, 0.3])

    def draw():
        return pipeline(LABELS, generator=torch.Generator().manual_seed(0)).images

    assert (difficulties(pipeline, guide, targets, draw) - targets).abs().max() < 0.15


# -- the class direction


@EVERY_KIND
def test_class_direction_counts_where_classifier_free_guidance_is_on(build, guide):
    pipeline, images = made(build), []
    for share in (0.0, 0.5):
        config = GuidanceConfig(max_norm=4.0, stop=1.0, class_direction=share)
        with steer(pipeline, guide, LABELS, 0.7, config=config):
            images.append(drawn(pipeline, build, steps=3))
    assert torch.equal(*images) == (build in (flux, sana_sprint))  # whose guidance was distilled into the network


class GuidedTransformerPipeline(FlowTransformerPipeline):
    """A class-conditional transformer in a loop with classifier-free guidance, one call of it for both answers."""

    @torch.no_grad()
    def __call__(self, class_labels, generator, num_inference_steps=6, guidance_scale=1.5):
        latents = torch.randn(len(class_labels), 4, 8, 8, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        labels = torch.tensor([self.transformer.config.num_embeds_ada_norm] * len(class_labels) + class_labels)
        for t in self.scheduler.timesteps:
            both = torch.cat([latents, latents])
            answer = self.transformer(both, timestep=t.expand(len(both)), class_labels=labels).sample
            null, given = answer.chunk(2)
            latents = self.scheduler.step(null + guidance_scale * (given - null), t, latents).prev_sample
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return BaseOutput(images=(images / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled in place"])
def test_class_direction_is_that_of_our_own_pipeline(compiled):
    ours, config = load_embedded_pipeline(), GuidanceConfig(class_direction=0.3, decoded_steps=1)
    pipeline = GuidedTransformerPipeline(ours.transformer, ours.vae, ours.scheduler)
    classes, seeds = ["Bag", "Coat"], [torch.Generator().manual_seed(0) for _ in range(2)]
    options = {"guidance_scale": 1.5, "guidance_interval": (0.0, 1.0), "num_inference_steps": 6, "output_type": "pt"}
    expected = ours(classes, 0.5, difficulty_guidance=config, generator=seeds[0], **options).images
    if compiled:
        pipeline.transformer.compile(backend="eager")
    with steer(pipeline, ours.classifier, classes, 0.5, config=config, probe=ours.probe):
        images = pipeline(ours.get_label_ids(classes), seeds[1]).images
    assert torch.allclose(images, expected, atol=1e-3)


@given(st.integers(1, 4), st.booleans(), st.sampled_from([(4, 3, 3), (6, 8)]), st.integers(0, 3))
def test_two_answers_for_each_sample_are_taken_apart_however_they_come(count, at_once, shape, more):
    sample, answers = torch.zeros(count, *shape), torch.randn(2, count, shape[0] + more, *shape[1:])
    heard = [(answers.flatten(0, 1),)] if at_once else [(one,) for one in answers]
    expected = (answers[0] - answers[1])[:, : shape[0]]
    assert torch.equal(class_direction(heard, sample), expected)
    assert class_direction(heard[:-1] if not at_once else [(answers[0],)], sample) is None
    assert class_direction([*heard, *heard], torch.zeros(count + 1, *shape)) is None or count == 1


# -- ways of calling


def test_several_images_per_prompt_have_a_label_and_a_target_each(guide):
    pipeline, targets = made(stable_diffusion), torch.tensor([0.2, 0.8, 0.2, 0.8])
    with steer(pipeline, guide, [0, 0, 1, 1], targets, config=WIDE) as steered:
        found = steered.measure(drawn(pipeline, stable_diffusion, num_images_per_prompt=2))
    assert (found - targets).abs().max() < 0.15


def test_classes_are_asked_for_by_name_and_one_serves_all_images(guide):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, "boot", 0.7, config=WIDE) as steered:
        found = steered.measure(drawn(pipeline, stable_diffusion))
    assert (found - 0.7).abs().max() < 0.15


def test_block_may_draw_several_times_and_images_do_not_depend_on_what_was_drawn_before(guide):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS, 0.7, config=WIDE):
        first, again = (drawn(pipeline, stable_diffusion, steps=6) for _ in range(2))
    assert torch.equal(first, again)


def test_step_callback_may_end_a_run_and_the_next_one_starts_anew(guide):
    pipeline = made(stable_diffusion)

    def stop(pipeline, step, timestep, given):
        pipeline._interrupt = step == 2
        return given

    with steer(pipeline, guide, LABELS, 0.7, config=WIDE):
        first = drawn(pipeline, stable_diffusion, steps=6)
        drawn(pipeline, stable_diffusion, steps=6, callback_on_step_end=stop)
        assert torch.equal(drawn(pipeline, stable_diffusion, steps=6), first)


def test_difficulties_are_those_that_score_finds(guide, tmp_path):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS, [0.2, 0.8], config=WIDE) as steered:
        pictures = drawn(pipeline, stable_diffusion, "pil", steps=6)
        found = steered.measure(pictures)
    for label, picture in zip(LABELS, pictures, strict=True):
        folder = tmp_path / f"{label}_{NAMES[label].split(',')[0]}"
        folder.mkdir()
        picture.save(folder / "0.png")
    assert score_pool(read_pool(tmp_path), guide).difficulties == pytest.approx(found.numpy(), abs=1e-6)


@pytest.mark.parametrize("output_type", ["pt", "np"])
def test_arrays_and_tensors_are_measured_as_pictures_are_but_for_their_rounding(guide, output_type):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS) as steered:
        each = [steered.measure(drawn(pipeline, stable_diffusion, kind, steps=2)) for kind in ("pil", output_type)]
    assert torch.allclose(*each, atol=0.02)


def test_several_guides_steer_and_the_first_measures(guide):
    pipeline, other = made(stable_diffusion), tiny_classifier(hidden_sizes=[8], preprocessing=PREPROCESSING)
    with steer(pipeline, [guide, other], LABELS, 0.7, config=WIDE) as steered:
        both = drawn(pipeline, stable_diffusion, steps=6)
        measured = steered.measure(both)
    with steer(pipeline, guide, LABELS, 0.7, config=WIDE) as steered:
        assert torch.equal(steered.measure(both), measured)
        assert not torch.equal(drawn(pipeline, stable_diffusion, steps=6), both)


def test_guide_whose_image_processor_has_gone_steers_to_the_end_of_the_run(tmp_path):
    saved = tiny_classifier(num_channels=3, preprocessing=None)
    with torch.no_grad():
        saved.classifier[-1].weight.div_(10)  # in doubt, as a trained guide is
    saved.save_pretrained(tmp_path / "guide")
    ViTImageProcessor(size={"height": 24, "width": 24}, resample=3).save_pretrained(tmp_path / "guide")
    guide = ResNetForImageClassification.from_pretrained(tmp_path / "guide").eval()  # looks for it in the folder
    seen = []

    def lose(pipeline, step, t, given):
        shutil.rmtree(tmp_path / "guide", ignore_errors=True)
        seen.append(step)
        return given

    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS, 0.7, config=WIDE) as steered:
        drawn(pipeline, stable_diffusion, steps=3, callback_on_step_end=lose)
    assert steered.guided_steps == len(seen) == 3


def test_gradients_may_come_from_a_tiny_decoder(guide):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS, 0.7, config=WIDE, guidance_vae=tiny_decoder()):
        changed = drawn(pipeline, stable_diffusion, steps=6)
    with steer(pipeline, guide, LABELS, 0.7, config=WIDE):
        assert not torch.equal(drawn(pipeline, stable_diffusion, steps=6), changed)


def test_probe_steers_as_it_does_in_our_own_pipeline():
    ours = load_embedded_pipeline()
    pipeline, config = FlowTransformerPipeline(ours.transformer, ours.vae, ours.scheduler), GuidanceConfig()
    classes, seeds = ["Bag", "Coat"], [torch.Generator().manual_seed(0) for _ in range(2)]
    options = {"guidance_scale": 1.0, "num_inference_steps": 6, "output_type": "pt", "generator": seeds[0]}
    expected = ours(classes, 0.5, difficulty_guidance=config, **options).images
    with steer(pipeline, ours.classifier, classes, 0.5, config=config, probe=ours.probe):
        images = pipeline(ours.get_label_ids(classes), 6, seeds[1]).images
    assert torch.allclose(images, expected, atol=1e-3)


def test_probe_of_another_pipeline_is_refused(guide):
    ours = load_embedded_pipeline()
    pipeline = made(lambda: FlowTransformerPipeline(ours.transformer, kl(), ours.scheduler))
    with (
        pytest.raises(ValueError, match="probe was trained for another VAE"),
        steer(pipeline, ours.classifier, "Bag", 0.5, probe=ours.probe),
    ):
        pipeline([8, 8])
    with pytest.raises(ValueError, match="train_probe has not made"), steer(pipeline, guide, 0, 0.5, probe=guide):
        pipeline([8, 8])


def test_steering_is_the_same_in_inference_mode(guide):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS, 0.7, config=WIDE):
        plain = drawn(pipeline, stable_diffusion, steps=6)
    with torch.inference_mode(), steer(pipeline, guide, LABELS, 0.7, config=WIDE):
        assert torch.equal(drawn(pipeline, stable_diffusion, steps=6), plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("build", [stable_diffusion, flux], ids=lambda build: build.__name__)
def test_half_precision_stays_and_is_steered(build, dtype, guide):
    pipeline, targets = made(build).to(dtype), torch.tensor([0.8, 0.3])
    with steer(pipeline, guide, LABELS, targets, config=WIDE) as steered:
        seen = []
        images = drawn(
            pipeline,
            build,
            callback_on_step_end=lambda pipeline, step, t, given: seen.append(given["latents"].dtype) or given,
        )
        assert set(seen) == {dtype}
        assert (steered.measure(images) - targets).abs().max() < 0.2


def test_latents_that_would_overflow_stay_as_they_are(guide, caplog):
    pipeline = made(stable_diffusion).to(torch.float16)
    far = GuidanceConfig(max_norm=1e7, scale=1e6)
    with caplog.at_level(logging.WARNING), steer(pipeline, guide, LABELS, 0.7, config=far):
        images = drawn(pipeline, stable_diffusion, steps=4)
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    "changed",
    [
        lambda network: torch.compile(network, backend="eager"),
        lambda network: torch.ao.quantization.quantize_dynamic(network, {torch.nn.Linear}, torch.qint8),
    ],
    ids=["compiled", "quantised"],
)
def test_denoiser_that_is_compiled_or_quantised_is_steered(guide, changed):
    pipeline = made(lambda: FlowTransformerPipeline(tiny_transformer(), kl(), FlowMatchEulerDiscreteScheduler()))
    pipeline.transformer = changed(pipeline.transformer)
    targets = torch.tensor([0.8, 0.3])

    def draw():
        return pipeline(LABELS, generator=torch.Generator().manual_seed(0)).images

    assert (difficulties(pipeline, guide, targets, draw) - targets).abs().max() < 0.15


def test_decoder_that_overflows_in_half_precision_is_copied_in_full(guide):
    pipeline = made(stable_diffusion_xl)
    pipeline.vae.half()
    with steer(pipeline, guide, LABELS, 0.7) as steered:
        assert steered.decoder.dtype == torch.float32
    assert pipeline.vae.dtype == torch.float16


def test_tiled_and_sliced_decoding_is_steered(guide):
    pipeline = made(stable_diffusion)
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()
    pipeline.vae.tile_latent_min_size, pipeline.vae.tile_sample_min_size = 6, 12
    targets = torch.tensor([0.8, 0.3])
    found = difficulties(pipeline, guide, targets, lambda: drawn(pipeline, stable_diffusion))
    assert (found - targets).abs().max() < 0.15


# -- what is left behind


def state_of(pipeline):
    hooks = [len(part._forward_hooks) for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return type(pipeline.scheduler), set(vars(pipeline.scheduler)), set(vars(pipeline)), hooks


@pytest.mark.parametrize("build", [stable_diffusion, flux], ids=lambda build: build.__name__)
def test_pipeline_is_as_it_was_afterwards_also_after_an_error(build, guide):
    pipeline = made(build)
    drawn(pipeline, build, steps=2)
    before = state_of(pipeline)
    with pytest.raises(ZeroDivisionError), steer(pipeline, guide, LABELS, 0.5):
        drawn(pipeline, build, steps=2, callback_on_step_end=lambda *given: 1 / 0)
    with pytest.raises(ValueError, match="3 class labels for 2 images"), steer(pipeline, guide, [0, 1, 2], 0.5):
        drawn(pipeline, build, steps=2)
    assert state_of(pipeline) == before


def test_pipelines_find_the_arguments_of_the_step_and_its_class(guide):
    pipeline = made(stable_diffusion)
    plain = [inspect.signature(getattr(pipeline.scheduler, name)) for name in ("step", "set_timesteps")]
    with steer(pipeline, guide, LABELS, 0.5, config=WIDE):
        drawn(pipeline, stable_diffusion, steps=2)
        assert [inspect.signature(getattr(pipeline.scheduler, name)) for name in ("step", "set_timesteps")] == plain
        assert isinstance(pipeline.scheduler, DDIMScheduler)


def test_noise_of_the_scheduler_is_drawn_from_the_same_generator(guide):
    pipeline = made(stable_diffusion)
    plain = drawn(pipeline, stable_diffusion, steps=4, eta=1.0)
    with steer(pipeline, guide, LABELS):
        assert torch.equal(drawn(pipeline, stable_diffusion, steps=4, eta=1.0), plain)


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_trailing_steps_that_end_below_the_first_timestep_are_refused(guide, kind):
    pipeline = made(stable_diffusion)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    with steer(pipeline, guide, 0), pytest.raises(ValueError, match=r"num_inference_steps is 61.*; use 60, or"):
        drawn(pipeline, stable_diffusion, steps=61)


@pytest.mark.parametrize("copy", [deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"])  # noqa: S301
def test_copy_of_a_steered_scheduler_is_a_plain_one(guide, copy):
    pipeline = made(stable_diffusion)
    plain = type(pipeline.scheduler)
    with steer(pipeline, guide, LABELS, 0.5, config=WIDE):
        drawn(pipeline, stable_diffusion, steps=2)
        copied = copy(pipeline.scheduler)
    assert type(copied) is plain
    assert copied.num_inference_steps == 2


def test_pipeline_is_saved_as_without_steering(guide, tmp_path):
    pipeline = made(stable_diffusion)
    with steer(pipeline, guide, LABELS, 0.5):
        pipeline.save_pretrained(tmp_path)
    assert type(type(pipeline).from_pretrained(tmp_path).scheduler) is DDIMScheduler


# -- refusals


def changed(pipeline, **parts):
    for name, part in parts.items():
        setattr(pipeline, name, part)
    return pipeline


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"scheduler": EDMEulerScheduler()}, "EDMEulerScheduler is not supported"),
        ({"scheduler": DDIMScheduler()}, "clip_sample=False"),
        ({"vae": None}, "has no vae"),
        ({"vae": UNet2DModel(block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2,
                             up_block_types=("UpBlock2D",) * 2)}, "not known here"),
    ],
    ids=["scheduler", "clipping", "none", "decoder"],
)  # fmt: skip
def test_pipeline_that_cannot_be_steered_is_refused(parts, told, guide):
    with pytest.raises(ValueError, match=told), steer(changed(made(stable_diffusion), **parts), guide, LABELS, 0.5):
        pass


def test_pixel_pipeline_is_refused(guide):
    pipeline = DDPMPipeline(made(stable_diffusion).unet, DDPMScheduler(clip_sample=False))
    with pytest.raises(ValueError, match="has no vae"), steer(pipeline, guide, LABELS, 0.5):
        pass


def test_dit_pipeline_is_referred_to_ours(guide):
    pipeline = DiTPipeline(tiny_transformer(), kl(), DDIMScheduler(clip_sample=False))
    told = r"call DifficultyGuidedPipeline .* under one of DDIMScheduler"
    with pytest.raises(ValueError, match=told), steer(pipeline, guide, LABELS, 0.5):
        pass


@pytest.mark.parametrize(
    ("labels", "target", "told"),
    [
        ([0, 7], 0.5, "7 is no single class"),
        (["Bags"], 0.5, "Bags"),
        ([], 0.5, "needs class labels"),
        (LABELS, 1.5, r"\[0, 1\]"),
        (LABELS, float("nan"), r"\[0, 1\]"),
        (LABELS, [], r"\[0, 1\]"),
    ],
)
def test_labels_and_targets_that_make_no_sense_are_refused(labels, target, told, guide):
    with pytest.raises(ValueError, match=told), steer(made(stable_diffusion), guide, labels, target):
        pass


def test_another_number_of_targets_than_of_images_is_refused(guide):
    pipeline = made(stable_diffusion)
    with (
        pytest.raises(ValueError, match="3 target difficulties for 2 images"),
        steer(pipeline, guide, LABELS, [0.1] * 3),
    ):
        drawn(pipeline, stable_diffusion, steps=2)


def test_window_without_a_step_is_refused(guide):
    pipeline = made(stable_diffusion)
    early = GuidanceConfig(stop=0.9)
    with pytest.raises(ValueError, match="none of 1 steps"), steer(pipeline, guide, LABELS, 0.5, config=early):
        drawn(pipeline, stable_diffusion, steps=1)


def test_guide_in_training_mode_is_refused():
    with (
        pytest.raises(ValueError, match="training mode"),
        steer(made(stable_diffusion), tiny_classifier().train(), LABELS, 0.5),
    ):
        pass


def test_scheduler_is_steered_once(guide):
    pipeline = made(stable_diffusion)
    shares = changed(made(stable_diffusion), scheduler=pipeline.scheduler)
    with (
        steer(pipeline, guide, LABELS, 0.5, config=WIDE),
        pytest.raises(ValueError, match="steered already"),
        steer(shares, guide, LABELS, 0.5),
    ):
        pass
    with steer(shares, guide, LABELS):
        pass


def test_scheduler_is_steered_once_whichever_thread_asks(guide):
    pipeline = made(stable_diffusion)

    def again():
        with steer(pipeline, guide, LABELS, 0.5):
            return "steered twice"

    with steer(pipeline, guide, LABELS, 0.5, config=WIDE), ThreadPoolExecutor(1) as threads:
        refused = threads.submit(again).exception()
        drawn(pipeline, stable_diffusion, steps=2)
    assert "steered already" in str(refused)


def test_video_pipeline_is_refused_by_its_decoder(guide):
    pipeline = changed(made(stable_diffusion), vae=AutoencoderKLWan(base_dim=3, z_dim=4, dim_mult=[1, 1]))
    with pytest.raises(ValueError, match="video and pixel pipelines"), steer(pipeline, guide, LABELS, 0.5):
        pass


def test_latents_of_a_video_are_refused(guide):
    pipeline = made(lambda: FlowTransformerPipeline(tiny_transformer(), kl(), FlowMatchEulerDiscreteScheduler()))
    frames = torch.zeros(2, 4, 3, 8, 8)
    pipeline.scheduler.set_timesteps(4)
    with steer(pipeline, guide, LABELS, 0.5), pytest.raises(ValueError, match="draws single images"):
        pipeline.scheduler.step(frames, pipeline.scheduler.timesteps[0], frames)


def test_block_that_steered_nothing_is_told(guide, caplog):
    pipeline = made(stable_diffusion)
    with caplog.at_level(logging.WARNING), steer(pipeline, guide, LABELS, 0.5):
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        drawn(pipeline, stable_diffusion, steps=2)
    assert "no step was steered" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"guide": None}, "NoneType can neither steer nor score"),
        ({"guide": "microsoft/resnet-50"}, "load_classifier"),
        ({"class_labels": None}, "None is neither a name nor a whole number"),
        ({"class_labels": [1.5]}, "1.5 is neither a name nor a whole number"),
        ({"class_labels": True}, "True is neither"),
        ({"config": {"scale": 1}}, "give a GuidanceConfig"),
        ({"mode_guidance": 0.1}, "give a ModeGuidance"),
        ({"modes": [[1.0]]}, "give a tensor of latents"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_of_another_kind_are_refused(given, told, guide):
    arguments = {"guide": guide, "class_labels": LABELS, "target_difficulty": 0.5} | given
    with pytest.raises(ValueError, match=told), steer(made(stable_diffusion), **arguments):
        pass


@pytest.mark.parametrize(
    "labels", [torch.tensor(1), np.array([1]), torch.tensor([1]), range(1, 2), "boot", np.int64(1)]
)
def test_label_is_the_same_however_it_is_written(labels, guide):
    assert [own.tolist() for own in Steered(None, [guide], labels, None, GuidanceConfig()).labels] == [[1]]


@pytest.mark.parametrize(
    "images",
    [[], ["0.png"], torch.zeros(3, 16, 16), torch.full((1, 1, 16, 16), 255), np.full((1, 16, 16, 1), np.nan)],
    ids=["none", "path", "three axes", "eight bits", "not a number"],
)
def test_what_is_no_finished_image_is_not_measured(images, guide):
    with pytest.raises(ValueError, match="measured"):
        Steered(None, [guide], 1, None, GuidanceConfig()).measure(images)


def test_one_picture_is_measured_as_a_list_of_it(guide):
    steered, picture = Steered(None, [guide], 1, None, GuidanceConfig()), Image.new("L", (16, 16), 90)
    assert torch.equal(steered.measure(picture), steered.measure([picture]))
