"""The pipeline: equal to diffusers' without a target, kept whole by saving, steered with one, plain about bad input."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from tiny import NAMES, tiny_classifier, tiny_components, tiny_pipeline, tiny_scheduler, tiny_transformer, tiny_vae

from dag_diffusion import DifficultyGuidedPipeline, GuidanceConfig
from dag_diffusion.guidance import rates
from dag_diffusion.guidance.guided_step import guided_step
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.pipelines.call_inputs import check_inputs

STEPS = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_pipeline(**changes) -> DiTPipeline:
    components = tiny_components(**changes)
    components.pop("classifier")
    pipeline = DiTPipeline(**components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline, labels=(0, 1), **options):
    options = {
        "num_inference_steps": STEPS,
        "generator": seeded(),
        "output_type": "np",
        "guidance_scale": 1.0,
    } | options
    return pipeline(labels, **options)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("kind", [DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_without_target_images_are_bit_identical_to_dit_pipeline(kind, prediction_type, guidance_scale):
    # 1000 classes, since DiTPipeline has its null class written in
    options = {"prediction_type": prediction_type} | ({} if kind is DDIMScheduler else {"clip_sample": None})
    changes = {
        "transformer": tiny_transformer(1000),
        "scheduler": tiny_scheduler(kind, **{k: v for k, v in options.items() if v is not None})
        if kind is DDIMScheduler
        else kind(prediction_type=prediction_type),
    }
    ours = draw(tiny_pipeline(**changes, classifier=None), guidance_scale=guidance_scale)
    theirs = draw(plain_pipeline(**changes), guidance_scale=guidance_scale)
    assert np.array_equal(ours.images, theirs.images)


def test_classifier_alone_changes_no_pixel():
    with_guide, without = draw(tiny_pipeline()), draw(tiny_pipeline(classifier=None))
    assert np.array_equal(with_guide.images, without.images)
    assert without.difficulties is None


def test_save_and_reload_keeps_classifier_names_and_images(tmp_path, pipeline):
    pipeline.save_pretrained(tmp_path)
    again = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.class_names == NAMES
    first, second = (draw(p, target_difficulty=0.5) for p in (pipeline, again))
    assert np.array_equal(first.images, second.images)
    assert torch.equal(first.difficulties, second.difficulties)


def test_saved_files_hold_no_pickle(tmp_path, pipeline):
    pipeline.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".json", ".safetensors"}


def test_pickled_weights_are_refused_with_the_way_to_trust_them(tmp_path, pipeline):
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="use_safetensors=None"):
        DifficultyGuidedPipeline.from_pretrained(tmp_path)


def test_plain_dit_folder_loads_with_a_classifier_given(tmp_path):
    plain_pipeline().save_pretrained(tmp_path)
    pipeline = DifficultyGuidedPipeline.from_pretrained(tmp_path, classifier=tiny_classifier(), id2label=NAMES)
    assert pipeline.classifier is not None
    assert DifficultyGuidedPipeline.from_pretrained(tmp_path).classifier is None


def test_saved_pipeline_without_classifier_reloads_without(tmp_path):
    tiny_pipeline(classifier=None).save_pretrained(tmp_path)
    assert DifficultyGuidedPipeline.from_pretrained(tmp_path).classifier is None


def test_saved_classifier_can_be_replaced_on_load(tmp_path, pipeline):
    pipeline.save_pretrained(tmp_path)
    other = tiny_classifier()
    assert DifficultyGuidedPipeline.from_pretrained(tmp_path, classifier=other).classifier is other
    assert DifficultyGuidedPipeline.from_pretrained(tmp_path, classifier=None).classifier is None


def test_saved_pipeline_loads_as_plain_dit_pipeline_too(tmp_path, pipeline):
    pipeline.save_pretrained(tmp_path)
    assert isinstance(DiTPipeline.from_pretrained(tmp_path), DiTPipeline)


def test_from_pipe_takes_the_parts_of_a_plain_pipeline():
    plain = plain_pipeline()
    pipeline = DifficultyGuidedPipeline.from_pipe(plain, classifier=tiny_classifier(), id2label=NAMES)
    assert pipeline.transformer is plain.transformer
    assert pipeline.class_names == NAMES


def test_loads_as_custom_pipeline_when_code_is_trusted(tmp_path, pipeline):
    from pathlib import Path

    from diffusers import DiffusionPipeline

    pipeline.save_pretrained(tmp_path / "saved")
    (tmp_path / "pipeline.py").write_text(Path(inspect.getsourcefile(DifficultyGuidedPipeline)).read_text())
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path / "saved", custom_pipeline=str(tmp_path / "pipeline.py"), trust_remote_code=True
    )
    assert type(loaded).__name__ == "DifficultyGuidedPipeline"
    assert loaded.classifier is not None


def test_labels_may_be_ids_names_synonyms_or_a_tensor(pipeline):
    expected = draw(pipeline, [1, 2]).images
    for labels in (["Ankle boot", "Bag"], ["boot", "bag"], ["Ankle boot, boot", 2], torch.tensor([1, 2])):
        assert np.array_equal(draw(pipeline, labels).images, expected)
    assert pipeline.get_label_ids("boot") == [1]


def test_one_label_needs_no_list(pipeline):
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "np"}
    assert pipeline("Bag", **options).images.shape == (1, 16, 16, 1)
    assert pipeline(2, **options).images.shape == (1, 16, 16, 1)


def test_classifier_free_guidance_uses_the_models_own_null_class(pipeline):
    seen = []
    pipeline.transformer.register_forward_pre_hook(
        lambda module, args, options: seen.append(options["class_labels"].tolist()), with_kwargs=True
    )
    draw(pipeline, [0, 1], guidance_scale=4.0)
    assert seen == [[0, 1, 3, 3]] * STEPS


def test_output_types_agree(pipeline):
    array = draw(pipeline).images
    tensor = draw(pipeline, output_type="pt").images
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    pil = np.stack([np.asarray(image) for image in draw(pipeline, output_type="pil").images])
    assert np.array_equal(pil, (array[..., 0] * 255).round().astype(np.uint8))
    latents = draw(pipeline, output_type="latent")
    assert latents.images.shape == (2, 4, 8, 8)
    assert latents.difficulties is None


def test_difficulties_are_those_of_the_images_handed_out(pipeline, tmp_path):
    from dag_diffusion import read_pool, score_pool

    output = draw(pipeline, [0, 1, 2], output_type="pil")
    for label, image in enumerate(output.images):
        folder = tmp_path / NAMES[label].split(",")[0]
        folder.mkdir()
        image.save(folder / "0.png")
    scores = score_pool(read_pool(tmp_path), pipeline.classifier)
    by_class = dict(zip([row["class_name"] for row in read_pool(tmp_path).rows], scores.difficulties, strict=True))
    for label, value in enumerate(output.difficulties.tolist()):
        assert by_class[NAMES[label].split(",")[0]] == pytest.approx(value, abs=1e-6)


def test_tuple_output_equals_the_dataclass(pipeline):
    images, difficulties = draw(pipeline, return_dict=False)
    output = draw(pipeline)
    assert np.array_equal(images, output.images)
    assert torch.equal(difficulties, output.difficulties)


def test_latents_replace_the_initial_noise(pipeline):
    latents = torch.randn(2, 4, 8, 8, generator=seeded())
    assert np.array_equal(draw(pipeline, latents=latents, generator=None).images, draw(pipeline).images)


def test_several_images_per_label_repeat_labels_in_order(pipeline):
    assert np.array_equal(draw(pipeline, [0, 1], num_images_per_label=2).images, draw(pipeline, [0, 0, 1, 1]).images)
    repeated = draw(pipeline, [0, 1], num_images_per_label=2, target_difficulty=[0.2, 0.8]).images
    assert np.array_equal(repeated, draw(pipeline, [0, 0, 1, 1], target_difficulty=[0.2, 0.2, 0.8, 0.8]).images)


@pytest.mark.parametrize("target", [None, [0.3, 0.9]])
def test_image_with_its_own_generator_does_not_depend_on_the_batch(pipeline, target):
    together = draw(pipeline, generator=[seeded(5), seeded(6)], target_difficulty=target).images
    alone = draw(pipeline, [1], generator=[seeded(6)], target_difficulty=None if target is None else target[1]).images
    assert np.allclose(together[1], alone[0], atol=1e-4)


@pytest.mark.parametrize("variance_type", ["fixed_small", "learned_range"])
def test_ddpm_is_reproducible_by_its_generator(variance_type):
    channels = 8 if variance_type == "learned_range" else 4
    pipeline = tiny_pipeline(
        scheduler=tiny_scheduler(DDPMScheduler, variance_type=variance_type),
        transformer=tiny_transformer(out_channels=channels),
    )
    first, second = (draw(pipeline, guidance_scale=2.0, target_difficulty=0.5).images for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(
        first, draw(pipeline, guidance_scale=2.0, target_difficulty=0.5, generator=seeded(1)).images
    )


def test_transformer_that_also_predicts_variance_works_with_ddim():
    pipeline = tiny_pipeline(transformer=tiny_transformer(out_channels=8))
    assert draw(pipeline, guidance_scale=2.0).images.shape == (2, 16, 16, 1)


def test_unset_out_channels_means_as_many_as_come_in():
    pipeline = tiny_pipeline(transformer=tiny_transformer(out_channels=None))
    assert draw(pipeline).images.shape == (2, 16, 16, 1)


def test_step_callback_sees_every_step_and_may_change_latents(pipeline):
    seen = []

    def zero_at_the_end(pipe, step, timestep, tensors):
        seen.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])} if step == STEPS - 1 else {}

    output = draw(pipeline, callback_on_step_end=zero_at_the_end, output_type="latent")
    assert seen == list(range(STEPS))
    assert not output.images.any()


def margins_after(pipeline, target, **options):
    output = draw(pipeline, [0, 1] * 12, target_difficulty=target, num_inference_steps=10, **options)
    return -torch.logit(output.difficulties, eps=1e-6)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_higher_target_makes_harder_images(kind):
    scheduler = kind() if hasattr(kind, "convert_model_output") else tiny_scheduler(kind)
    pipeline = tiny_pipeline(scheduler=scheduler)
    easy, hard = margins_after(pipeline, 0.02), margins_after(pipeline, 0.98)
    assert (easy > hard).float().mean() > 0.9


def test_each_image_follows_its_own_target(pipeline):
    one_target = draw(pipeline, [0, 0], target_difficulty=0.9, generator=[seeded(1), seeded(1)]).difficulties
    two_targets = draw(pipeline, [0, 0], target_difficulty=[0.9, 0.1], generator=[seeded(1), seeded(1)]).difficulties
    assert one_target[0] == pytest.approx(one_target[1].item())
    assert two_targets[0] == pytest.approx(one_target[0].item(), abs=1e-5)
    assert two_targets[1] < two_targets[0]


def test_list_and_tensor_targets_agree(pipeline):
    as_list, as_tensor = (draw(pipeline, target_difficulty=t).images for t in ([0.2, 0.7], torch.tensor([0.2, 0.7])))
    assert np.array_equal(as_list, as_tensor)


def latents_by_step(pipeline, **options):
    trace = []
    draw(pipeline, callback_on_step_end=lambda p, i, t, x: trace.append(x["latents"].clone()) or {}, **options)
    return trace


def test_steps_that_leave_noise_under_ddim_are_told_once_with_what_divides(pipeline, caplog):
    for spacing, steps in (("leading", 60), ("trailing", 50), ("trailing", 30), ("trailing", 60), ("trailing", 60)):
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing=spacing)
        trained = pipeline.scheduler.config.num_train_timesteps
        assert trained == 1000
        check_inputs(pipeline, [0], None, "pil", steps)
    (told,) = (message for message in caplog.messages if "noise" in message)
    assert told.startswith("num_inference_steps=60 leaves 40 of 1000 steps of noise in the images")
    assert told.endswith("use a number that divides 1000, such as 50 or 100")


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_trailing_steps_that_end_below_the_first_timestep_are_refused(kind, caplog):
    pipeline = tiny_pipeline()
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    nearest_of = {61: 50, 121: 125, 122: 125} if kind is DDIMScheduler else {61: 60, 121: 120, 122: 123}
    for steps, nearest in nearest_of.items():
        with pytest.raises(ValueError, match=f"num_inference_steps is {steps}.*; use {nearest}, or another"):
            pipeline(0, num_inference_steps=steps)
        check_inputs(pipeline, [0], None, "pil", nearest)
    assert not caplog.messages  # neither before a refusal nor of what it advises
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, timestep_spacing="leading")
    check_inputs(pipeline, [0], None, "pil", 61)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
def test_steps_that_an_offset_moves_beyond_what_was_trained_are_refused(kind):
    pipeline = tiny_pipeline()
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, timestep_spacing="leading", steps_offset=1)
    with pytest.raises(ValueError, match=r"num_inference_steps is 1000, of which steps_offset=1 .* timestep 1000"):
        pipeline(0, num_inference_steps=1000)
    check_inputs(pipeline, [0], None, "pil", 999)


def test_step_after_the_window_is_plain_denoising(pipeline):
    # resumed from its own next-to-last latents, a guided run ends where plain denoising ends
    options = {"num_inference_steps": 10, "output_type": "latent", "difficulty_guidance": GuidanceConfig(stop=0.9)}
    guided = latents_by_step(pipeline, target_difficulty=0.9, **options)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(10)
    with torch.no_grad():
        output, _ = pipeline.predict(guided[-2], scheduler.timesteps[-1], torch.tensor([0, 1]))
    assert torch.allclose(
        scheduler.step(output, scheduler.timesteps[-1], guided[-2]).prev_sample, guided[-1], atol=1e-6
    )


def test_steps_before_the_window_are_those_of_the_unguided_run(pipeline):
    window = GuidanceConfig(start=0.5, stop=0.9)
    options = {"num_inference_steps": 10, "difficulty_guidance": window}
    guided, plain = (latents_by_step(pipeline, target_difficulty=t, **options) for t in (0.9, None))
    assert all(torch.equal(guided[i], plain[i]) for i in range(5))
    assert not torch.equal(guided[5], plain[5])


def shifted_ideal_run(scheduler, steps: int) -> torch.Tensor:
    """Denoise with the exact predictor of data ~ N(0, 1/4), pushing x0 by 2 / steps in the middle third."""
    scheduler.set_timesteps(steps)
    push = SimpleNamespace(
        steps=range(math.ceil(steps / 3), math.ceil(2 * steps / 3)),
        shift=lambda clean, alpha, step, by_class: torch.full_like(clean, 2 / steps),
    )

    def exact(latents, timestep):
        alpha = torch.tensor(rates.signal_share(*rates.rates_of(scheduler, timestep)[:2]))
        return (1 - alpha).sqrt() * latents / (alpha / 4 + 1 - alpha), None

    latents = torch.full((1, 1, 1, 1), 0.7)
    for step, timestep in enumerate(scheduler.timesteps):
        latents = guided_step(latents, timestep, step, predict=exact, scheduler=scheduler, difficulty=push).latents
    return latents


SOLVERS = {
    f"{kind.__name__}, {options}": (kind, options)
    for kind, options in (
        (DPMSolverMultistepScheduler, {"solver_order": 2}),
        (DPMSolverMultistepScheduler, {"solver_order": 3}),
        (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver", "solver_order": 2}),
        (UniPCMultistepScheduler, {"solver_order": 2}),
        (UniPCMultistepScheduler, {"solver_order": 3, "predict_x0": False}),
    )
}


@pytest.mark.parametrize("name", SOLVERS)
def test_solver_ends_where_fine_ddim_steps_end_under_guidance(name):
    ddim, (kind, options) = tiny_scheduler(timestep_spacing="trailing", set_alpha_to_one=True), SOLVERS[name]
    solver = kind.from_config(ddim.config, final_sigmas_type="sigma_min", **options)
    exact = shifted_ideal_run(ddim, 1000)
    assert (shifted_ideal_run(solver, 90) - exact).abs().item() < 0.05 * exact.abs().item()


FAMILY = [
    {},
    {"smoothing": 0.1, "samples": 2},
    {"class_direction": 0.0},
    {"scale": 0.5},
    {"every": 2, "start": 0.2},
]


@pytest.mark.parametrize("options", FAMILY, ids=str)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_every_form_of_guidance_steers(pipeline, options, guidance_scale):
    config = GuidanceConfig(**({"max_norm": 1.0} | options))
    easy, hard = (
        margins_after(pipeline, t, difficulty_guidance=config, guidance_scale=guidance_scale) for t in (0.02, 0.98)
    )
    assert easy.mean() > hard.mean()


def test_scale_of_a_call_replaces_that_of_its_configuration(pipeline):
    by_number = draw(pipeline, target_difficulty=0.9, difficulty_guidance_scale=0.5)
    by_config, plain = (
        draw(pipeline, target_difficulty=0.9, difficulty_guidance=GuidanceConfig(scale=scale)) for scale in (0.5, 1.0)
    )
    assert np.array_equal(by_number.images, by_config.images)
    assert not np.array_equal(by_number.images, plain.images)


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_every_form_of_guidance_treats_images_one_by_one(pipeline, options):
    config = GuidanceConfig(**options)
    both = draw(pipeline, target_difficulty=0.9, generator=[seeded(1), seeded(2)], difficulty_guidance=config)
    alone = draw(pipeline, [1], target_difficulty=0.9, generator=[seeded(2)], difficulty_guidance=config)
    assert np.allclose(both.images[1], alone.images[0], atol=1e-4)


def test_extra_guides_have_a_say(pipeline):
    other = tiny_classifier()
    with torch.no_grad():
        other.classifier[-1].weight.neg_()
    plain = draw(pipeline, target_difficulty=0.9).images
    assert not np.allclose(draw(pipeline, target_difficulty=0.9, extra_guides=[other]).images, plain)


def test_extra_guide_without_one_of_the_classes_is_refused(pipeline):
    with pytest.raises(ValueError, match="no class called 'Ankle boot, boot'"):
        draw(pipeline, target_difficulty=0.5, extra_guides=[tiny_classifier({0: "T-shirt", 1: "Bag"})])


def tiny_decoder(**changes) -> AutoencoderTiny:
    options = {
        "in_channels": 1,
        "out_channels": 1,
        "encoder_block_out_channels": (4, 4),
        "decoder_block_out_channels": (4, 4),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
    }
    torch.manual_seed(0)
    return AutoencoderTiny(**(options | changes)).eval()


def test_tiny_decoder_gives_the_gradient_and_the_vae_the_image(pipeline):
    with_tiny = tiny_pipeline(guidance_vae=tiny_decoder())
    assert np.array_equal(draw(with_tiny).images, draw(pipeline).images)
    assert not np.array_equal(
        draw(with_tiny, target_difficulty=0.9).images, draw(pipeline, target_difficulty=0.9).images
    )


@pytest.mark.parametrize(("part", "value"), [("weight", "inf"), ("bias", "inf"), ("bias", "-inf")])
def test_images_that_are_not_finite_are_an_error_with_the_way_out(part, value):
    vae = tiny_vae()
    with torch.no_grad():
        getattr(vae.decoder.conv_out, part).fill_(float(value))
    with pytest.raises(FloatingPointError, match="2 of 2 images are not finite"):
        draw(tiny_pipeline(vae=vae))


def test_other_guides_need_a_target_and_must_be_in_eval_mode(pipeline):
    with pytest.raises(ValueError, match="only with a target difficulty"):
        draw(pipeline, extra_guides=[tiny_classifier()])
    with pytest.raises(ValueError, match=r"call its eval\(\)"):
        draw(pipeline, target_difficulty=0.5, extra_guides=[tiny_classifier().train()])


def test_tiny_decoder_travels_with_the_pipeline(tmp_path):
    pipeline = tiny_pipeline(guidance_vae=tiny_decoder())
    pipeline.save_pretrained(tmp_path)
    again = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(draw(again, target_difficulty=0.9).images, draw(pipeline, target_difficulty=0.9).images)


def test_tiny_decoder_of_other_latents_is_refused():
    pipeline = tiny_pipeline(guidance_vae=tiny_decoder(latent_channels=8))
    with pytest.raises(ValueError, match="8 latent channels"):
        draw(pipeline, target_difficulty=0.5)


@pytest.mark.parametrize("kind", [DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_modes_draw_images_near_them_and_compose_with_guidance(kind):
    pipeline = tiny_pipeline(scheduler=kind.from_config(tiny_scheduler(prediction_type="sample").config))
    modes = torch.full((2, 4, 8, 8), 2.0)
    options = {"num_inference_steps": 10, "output_type": "latent"}
    drawn = draw(pipeline, modes=modes, mode_guidance=ModeGuidance(scale=1.0), **options).images
    plain = draw(pipeline, **options).images
    assert (drawn - modes).abs().mean() < (plain - modes).abs().mean()
    both = draw(pipeline, target_difficulty=0.9, modes=modes, **options).images
    assert torch.isfinite(both).all()
    assert not torch.equal(both, draw(pipeline, modes=modes, **options).images)


def test_denoiser_that_is_far_off_keeps_mode_guidance_finite(pipeline):
    images = draw(pipeline, modes=torch.zeros(2, 4, 8, 8), mode_guidance=ModeGuidance(scale=10.0)).images
    assert np.isfinite(images).all()


def test_components_are_left_as_they_were(pipeline):
    draw(pipeline, target_difficulty=0.5)
    for module in (pipeline.transformer, pipeline.vae, pipeline.classifier):
        assert all(p.grad is None and p.requires_grad for p in module.parameters())
        assert not module.training


def test_classifier_free_guidance_costs_nothing_outside_of_its_interval(pipeline):
    rows = []
    pipeline.transformer.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    draw(pipeline, guidance_scale=3.0, guidance_interval=(0.25, 0.75))
    assert rows == [2, 4, 4, 2]


def test_interval_of_all_steps_is_plain_classifier_free_guidance(pipeline):
    whole = draw(pipeline, guidance_scale=3.0, guidance_interval=(0.0, 1.0)).images
    part = draw(pipeline, guidance_scale=3.0, guidance_interval=(0.5, 1.0)).images
    assert np.array_equal(whole, draw(pipeline, guidance_scale=3.0).images)
    assert not np.array_equal(whole, part)


@pytest.mark.parametrize(
    ("given", "rows"),
    [({}, [2, 4, 4, 2]), ({"guidance_interval": (0.0, 0.5)}, [4, 4, 2, 2]), ({"num_inference_steps": 1}, [4])],
)
def test_interval_is_the_pipelines_own_unless_one_is_given_or_it_holds_no_step(pipeline, given, rows):
    drawn = []
    pipeline.register_to_config(default_guidance_start=0.25, default_guidance_stop=0.75)
    pipeline.transformer.register_forward_pre_hook(lambda _, inputs: drawn.append(len(inputs[0])))
    draw(pipeline, guidance_scale=3.0, **given)
    assert drawn == rows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_precision_draw_nearly_the_same_and_leave_the_weights(pipeline, dtype):
    options = {"guidance_scale": 2.0, "target_difficulty": 0.5}
    full, half = (draw(pipeline, **options, network_dtype=kind).images for kind in (None, dtype))
    assert 0 < np.abs(full - half).mean() < 0.02
    assert np.array_equal(full, draw(pipeline, **options, network_dtype=torch.float32).images)


def test_half_precision_stays_finite():
    pipeline = tiny_pipeline().to(torch.bfloat16)
    output = draw(pipeline, target_difficulty=[0.1, 0.9])
    assert output.images.dtype == np.float32
    assert np.isfinite(output.images).all()
    assert torch.isfinite(output.difficulties).all()


def test_flat_classifier_gives_finite_images():
    classifier = tiny_classifier()
    torch.nn.init.zeros_(classifier.classifier[-1].weight)
    output = draw(tiny_pipeline(classifier=classifier), target_difficulty=0.9)
    assert np.isfinite(output.images).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_difficulty": 1.2}, r"must lie in \[0, 1\]"),
        ({"target_difficulty": float("nan")}, r"must lie in \[0, 1\]"),
        ({"target_difficulty": [0.1, 0.2, 0.3]}, "3 target difficulties for 2 images"),
        ({"target_difficulty": "hard"}, "must be numbers"),
        ({"labels": ["Hat"]}, "no class called 'Hat'"),
        ({"labels": [3]}, r"0\.\.2"),
        ({"labels": [-1]}, r"0\.\.2"),
        ({"labels": []}, r"one or more"),
        ({"output_type": "jpeg"}, "choose one of pil, np, pt, latent"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale is inf"),
        ({"num_inference_steps": 0}, r"1\.\.1000"),
        ({"num_inference_steps": 1001}, r"1\.\.1000"),
        ({"num_images_per_label": 0}, "at least 1"),
        (
            {"num_inference_steps": 1, "target_difficulty": 0.5, "difficulty_guidance": GuidanceConfig(stop=0.9)},
            "none of 1 steps",
        ),
        ({"generator": [torch.Generator()]}, "1 generators for 2 images"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"need \(2, 4, 8, 8\)"),
        ({"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}, "prompt_embeds"),
        ({"target_difficulty": 0.5, "difficulty_guidance_scale": 0.0}, "positive, finite scale"),
        ({"guidance_interval": (0.5, 0.5)}, "guidance_interval"),
        ({"guidance_interval": (0.1, 0.2)}, f"none of {STEPS} steps"),
        ({"guidance_interval": 0.5}, "guidance_interval"),
        ({"modes": torch.zeros(1, 4, 8, 8)}, r"one each, \(2, 4, 8, 8\)"),
        ({"modes": "modes.safetensors"}, "modes are a str; give a tensor"),
        ({"labels": None}, "None is neither a name nor a whole number"),
        ({"labels": [1.5]}, "1.5 is neither a name nor a whole number"),
        ({"labels": True}, "True is neither"),
        ({"labels": {"Bag"}}, "{'Bag'} is neither"),
        ({"labels": {"Bag": 0.5}}, "is neither"),
        ({"labels": b"Bag"}, "is neither"),
        ({"labels": torch.tensor([1.0])}, "1.0 is neither"),
        ({"num_images_per_label": 1.5}, "whole number"),
        ({"num_inference_steps": 4.0}, "num_inference_steps is 4.0; give a whole number"),
        ({"num_inference_steps": "4"}, "num_inference_steps is '4'"),
        ({"guidance_scale": "4"}, "guidance_scale is '4'; give a finite number"),
        ({"generator": 0}, "generator is a int; give a torch.Generator"),
        ({"generator": (torch.Generator(), torch.Generator())}, "generator is a tuple"),
        ({"generator": [0, 1]}, "generator is a int"),
        ({"latents": [0.0]}, "latents are a list"),
        ({"latents": torch.full((2, 4, 8, 8), float("nan"))}, "latents hold NaN"),
        ({"difficulty_guidance": {"stop": 1.0}}, "difficulty_guidance is a dict; give a GuidanceConfig"),
        ({"mode_guidance": 0.2}, "mode_guidance is a float; give a ModeGuidance"),
        ({"diversity": 0.02}, "diversity is a float; give a DiversityGuidance"),
        ({"target_difficulty": 0.5, "extra_guides": [torch.nn.Linear(2, 2)]}, "a Linear does not say which classes"),
        ({"target_difficulty": 0.5, "extra_guides": "microsoft/resnet-50"}, "load_classifier"),
    ],
)
def test_bad_input_is_named_with_a_way_out(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        draw(pipeline, **options)


def test_one_extra_guide_needs_no_list(pipeline):
    other = tiny_classifier()
    torch.nn.init.normal_(other.classifier[-1].weight)
    alone, listed = (draw(pipeline, target_difficulty=0.5, extra_guides=guides).images for guides in (other, [other]))
    assert np.array_equal(alone, listed)


def test_guide_without_a_number_is_told_before_its_difficulties_are_used(pipeline):
    torch.nn.init.constant_(pipeline.classifier.classifier[-1].weight, float("nan"))
    with pytest.raises(FloatingPointError, match="no difficulty of 2 of 2 images"):
        draw(pipeline)


@pytest.mark.parametrize("given", ["microsoft/resnet-50", torch.nn.Linear(2, 2)])
def test_guide_that_no_pipeline_keeps_is_refused_in_a_line(pipeline, given, tmp_path):
    pipeline.save_pretrained(tmp_path)
    for make in (DifficultyGuidedPipeline.from_pretrained, lambda _, **parts: tiny_pipeline(**parts)):
        with pytest.raises(ValueError, match=r"load_classifier\('.*'\)") as refused:
            make(tmp_path, classifier=given)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["transformer", "vae", "classifier"])
def test_part_in_training_mode_is_refused(pipeline, name):
    getattr(pipeline, name).train()
    with pytest.raises(ValueError, match=rf"call {name}\.eval\(\) first"):
        draw(pipeline)


def test_pipeline_without_names_goes_by_number(tmp_path):
    names = {i: f"LABEL_{i}" for i in range(3)}
    pipeline = tiny_pipeline(id2label=None, classifier=tiny_classifier(names))
    assert draw(pipeline, [1], target_difficulty=0.5).difficulties.shape == (1,)
    with pytest.raises(ValueError, match="no class names; give numbers"):
        draw(pipeline, ["Bag"])


def test_guidance_inside_inference_mode_is_refused_with_the_way_out(pipeline):
    with torch.inference_mode(), pytest.raises(ValueError, match=r"torch\.no_grad"):
        draw(pipeline, target_difficulty=0.5)


def test_parts_of_different_precision_work_together():
    pipeline = tiny_pipeline(transformer=tiny_transformer().to(torch.bfloat16))
    assert np.isfinite(draw(pipeline, target_difficulty=0.5).images).all()


def test_offload_leaves_the_parts_of_the_guide_where_they_are(pipeline):
    assert "vae" not in pipeline.model_cpu_offload_seq
    assert {"vae", "classifier"} <= set(pipeline._exclude_from_cpu_offload)


@pytest.mark.parametrize("algorithm", ["sde-dpmsolver++", "sde-dpmsolver"])
def test_stochastic_solver_is_reproducible_by_its_generator(algorithm):
    solver = DPMSolverMultistepScheduler(algorithm_type=algorithm, final_sigmas_type="sigma_min")
    first, second = (draw(tiny_pipeline(scheduler=solver), target_difficulty=0.5).images for _ in range(2))
    assert np.array_equal(first, second)


def test_target_without_classifier_says_how_to_add_one():
    with pytest.raises(ValueError, match="load_classifier"):
        draw(tiny_pipeline(classifier=None), target_difficulty=0.5)


def test_classifier_of_other_classes_is_refused_with_the_nearest_name():
    other = tiny_classifier({0: "T-shirts", 1: "boot", 2: "Hat"})
    with pytest.raises(ValueError, match="the nearest are T-shirts"):
        draw(tiny_pipeline(classifier=other), target_difficulty=0.5)


def test_classifier_with_the_same_classes_in_another_order_is_matched_by_name():
    classifier, shuffled = tiny_classifier(), tiny_classifier({0: "Bag", 1: "T-shirt", 2: "boot"})
    order = [2, 0, 1]  # the pipeline's label of each of the classifier's
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(shuffled.classifier[-1], name).copy_(getattr(classifier.classifier[-1], name)[order])
    first, second = (
        draw(tiny_pipeline(classifier=c), [0, 1, 2], target_difficulty=0.6) for c in (classifier, shuffled)
    )
    assert np.allclose(first.images, second.images, atol=1e-5)
    assert torch.allclose(first.difficulties, second.difficulties, atol=1e-5)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDIMScheduler(clip_sample=True), "clip_sample=False"),
        (DDPMScheduler(clip_sample=False, thresholding=True), "thresholding=False"),
        (FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler is not supported"),
        (EulerDiscreteScheduler(), "EulerDiscreteScheduler is not supported"),
        (DPMSolverMultistepScheduler(variance_type="learned_range"), "variance_type='fixed_small'"),
        (DDPMScheduler(clip_sample=False, variance_type="learned_range"), "variance_type='fixed_small'"),
        (DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), "flow_prediction"),
        (DDIMScheduler(clip_sample=False, beta_end=float("nan")), "no share of signal"),
        (DDPMScheduler(clip_sample=False, beta_start=-0.1), "no share of signal"),
    ],
)
def test_scheduler_that_would_go_wrong_is_refused(scheduler, message):
    with pytest.raises(ValueError, match=message):
        draw(tiny_pipeline(scheduler=scheduler))
