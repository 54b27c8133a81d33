"""What diffusers' common tests ask of any pipeline: components, saving, callbacks, batches, precisions."""

import inspect

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DiTPipeline
from diffusers.callbacks import PipelineCallback, SDCFGCutoffCallback
from tiny import NAMES, tiny_classifier, tiny_pipeline

from dag_diffusion import DifficultyGuidedPipeline

STEPS = 3


def call(pipeline, labels=(0, 2), *, seed=0, **options):
    options = {"num_inference_steps": STEPS, "output_type": "np", "guidance_scale": 2.0} | options
    generator = options.pop("generator", torch.Generator().manual_seed(seed))
    return pipeline(labels, generator=generator, **options)


GUIDED = {"target_difficulty": 0.7}


@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["plain", "guided"])
def test_saved_and_loaded_pipeline_draws_the_same_images(pipeline, tmp_path, guided):
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    again = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=None)
    assert np.abs(call(pipeline, **guided).images - call(again, **guided).images).max() < 1e-5


@pytest.mark.parametrize("name", DifficultyGuidedPipeline._optional_components)
def test_optional_component_that_is_none_stays_none_when_saved(tmp_path, name):
    pipeline = tiny_pipeline()
    pipeline.register_modules(**{name: None})
    pipeline.save_pretrained(tmp_path)
    again = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    assert getattr(again, name) is None
    assert np.abs(call(pipeline).images - call(again).images).max() < 1e-5


def test_components_are_what_the_constructor_takes_besides_plain_values(pipeline):
    taken = set(inspect.signature(DifficultyGuidedPipeline.__init__).parameters) - {"self"}
    defaults = ("guidance_scale", "num_inference_steps", "autoguidance_scale", "guidance_start", "guidance_stop")
    plain = {"id2label", *(f"default_{name}" for name in defaults)}
    assert set(pipeline.components) == taken - plain
    again = DifficultyGuidedPipeline(**pipeline.components)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(call(pipeline).images, call(again).images)


def test_pipeline_from_another_keeps_parts_and_plain_values(pipeline):
    plain = DiTPipeline.from_pipe(pipeline)
    back = DifficultyGuidedPipeline.from_pipe(plain, classifier=pipeline.classifier, id2label=NAMES)
    back.set_progress_bar_config(disable=True)
    assert back.transformer is pipeline.transformer
    assert back.class_names == pipeline.class_names
    assert np.array_equal(call(pipeline, **GUIDED).images, call(back, **GUIDED).images)


def test_pipeline_from_a_plain_one_keeps_the_class_names_that_it_was_loaded_with(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    plain = DiTPipeline.from_pretrained(tmp_path)
    assert DifficultyGuidedPipeline.from_pipe(plain).class_names == pipeline.class_names
    assert DifficultyGuidedPipeline.from_pipe(plain, id2label={0: "hat"}).class_names[0] == "hat"


def test_pipeline_of_the_same_class_keeps_its_class_names_and_defaults():
    own = {"default_guidance_scale": 1.25, "default_num_inference_steps": 7, "default_guidance_start": 0.2}
    again = DifficultyGuidedPipeline.from_pipe(pipeline := tiny_pipeline(**own))
    assert again.class_names == pipeline.class_names
    assert {name: again.config[name] for name in own} == own
    assert again.default_guidance_interval == (0.2, 1.0)


@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["plain", "guided"])
def test_tuple_and_output_hold_the_same(pipeline, guided):
    output, (images, difficulties) = call(pipeline, **guided), call(pipeline, return_dict=False, **guided)
    assert np.array_equal(output.images, images)
    assert torch.equal(output.difficulties, difficulties)


@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["plain", "guided"])
def test_image_is_the_same_alone_and_in_a_batch(pipeline, guided):
    three = call(pipeline, [0, 1, 2], generator=[torch.Generator().manual_seed(i) for i in range(3)], **guided)
    alone = call(pipeline, [2], generator=[torch.Generator().manual_seed(2)], **guided)
    assert np.abs(three.images[2] - alone.images[0]).max() < 1e-4


@pytest.mark.parametrize(("labels", "each"), [([0], 1), ([0], 2), ([0, 1], 1), ([0, 1], 3)])
def test_number_of_images_is_that_of_the_labels_times_the_images_for_each(pipeline, labels, each):
    assert len(call(pipeline, labels, num_images_per_label=each).images) == len(labels) * each


NESTED = [
    [[0], [1]],
    [[0, 1]],
    torch.tensor([[0], [1]]),
    np.array([0, 1]),
    (0, 1),
    [["T-shirt"], "Ankle boot"],
    range(2),
]


@pytest.mark.parametrize("labels", NESTED, ids=str)
def test_nested_labels_are_flattened(pipeline, labels):
    assert np.array_equal(call(pipeline, labels).images, call(pipeline, [0, 1]).images)


def test_nested_labels_give_the_images_of_dit_pipeline(pipeline):
    plain = DiTPipeline(pipeline.transformer, pipeline.vae, pipeline.scheduler)
    plain.set_progress_bar_config(disable=True)
    options = {"guidance_scale": 1.0, "num_inference_steps": STEPS, "output_type": "np"}
    theirs = plain([[0], [2]], generator=torch.Generator().manual_seed(0), **options).images
    assert np.array_equal(call(pipeline, [[0], [2]], guidance_scale=1.0).images, theirs)


def test_callback_sees_what_it_asks_for_and_nothing_else(pipeline):
    seen = []

    def keep(pipe, step, timestep, given):
        seen.append((step, set(given), pipe.num_timesteps, pipe.guidance_scale))
        return {}

    asked = [*pipeline._callback_tensor_inputs]
    call(pipeline, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=asked)
    assert seen == [(step, set(asked), STEPS, 2.0) for step in range(STEPS)]
    with pytest.raises(ValueError, match="cannot have"):
        call(pipeline, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=["noise"])


def test_callback_that_returns_nothing_changes_nothing(pipeline):
    seen = []
    looked = call(pipeline, callback_on_step_end=lambda pipe, step, *_: seen.append(step)).images
    assert np.array_equal(looked, call(pipeline).images)
    assert seen


def test_callback_object_names_its_tensors_itself(pipeline):
    class Halved(PipelineCallback):
        tensor_inputs = ("latents", "clean")

        def callback_fn(self, pipeline, step, timestep, given):
            return {"latents": given["latents"] / 2} if "clean" in given else {}

    changed = call(pipeline, callback_on_step_end=Halved(cutoff_step_ratio=0.5)).images
    assert not np.array_equal(changed, call(pipeline).images)
    with pytest.raises(ValueError, match="prompt_embeds"):
        call(pipeline, callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.5))


def test_callback_may_change_the_latents(pipeline):
    zeros = call(
        pipeline,
        output_type="latent",
        callback_on_step_end=lambda pipe, step, timestep, given: {"latents": torch.zeros_like(given["latents"])},
    )
    assert not zeros.images.any()


@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["plain", "guided"])
def test_callback_may_change_the_guidance_scale_midway(pipeline, guided):
    scales = []

    def lower(pipe, step, timestep, given):
        scales.append(pipe.guidance_scale)
        pipe._guidance_scale = 1.0
        return {}

    changed = call(pipeline, callback_on_step_end=lower, **guided).images
    assert scales == [2.0, 1.0, 1.0]
    assert pipeline.do_classifier_free_guidance is False
    for constant in (1.0, 2.0):
        assert not np.array_equal(changed, call(pipeline, guidance_scale=constant, **guided).images)


def test_interrupt_skips_the_steps_that_are_left_and_still_decodes(pipeline):
    steps = []

    def stop(pipe, step, timestep, given):
        steps.append(step)
        pipe._interrupt = True
        return {}

    images = call(pipeline, callback_on_step_end=stop, **GUIDED).images
    assert steps == [0]
    assert np.isfinite(images).all()
    assert pipeline.interrupt
    assert not np.array_equal(images, call(pipeline, **GUIDED).images)
    assert pipeline.interrupt is False


@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["plain", "guided"])
def test_half_precision_survives_saving_and_draws_nearly_the_same(pipeline, tmp_path, guided):
    full = call(pipeline, **guided).images
    pipeline.to(torch.bfloat16).save_pretrained(tmp_path)
    half = DifficultyGuidedPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    parts = [part for part in half.components.values() if isinstance(part, torch.nn.Module)]
    assert {part.dtype for part in parts} == {torch.bfloat16}
    images = call(half, **guided).images
    assert np.isfinite(images).all()
    assert np.abs(images - full).mean() < 0.1


def test_calls_that_name_no_numbers_take_those_that_the_pipeline_carries(tmp_path):
    tiny_pipeline(default_guidance_scale=1.5, default_num_inference_steps=2).save_pretrained(tmp_path)
    carried = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    carried.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed
    own = carried([0], generator=seed(0), output_type="np").images
    assert carried.num_timesteps == 2
    assert np.array_equal(
        own, carried([0], guidance_scale=1.5, num_inference_steps=2, generator=seed(0), output_type="np").images
    )
    other = DifficultyGuidedPipeline.from_pretrained(tmp_path, default_num_inference_steps=4)
    assert (other.default_guidance_scale, other.default_num_inference_steps) == (1.5, 4)


def test_pipeline_without_numbers_of_its_own_has_those_of_dit_pipeline(pipeline):
    usual = inspect.signature(DiTPipeline.__call__).parameters
    assert pipeline.default_guidance_scale == usual["guidance_scale"].default
    assert pipeline.default_num_inference_steps == usual["num_inference_steps"].default


def test_number_of_steps_that_a_pipeline_carries_is_checked_like_any_other():
    pipeline = tiny_pipeline(default_num_inference_steps=0)
    with pytest.raises(ValueError, match="num_inference_steps is 0"):
        pipeline([0])


def test_pipeline_is_one_that_diffusers_loads_by_its_class_name(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    assert DiffusionPipeline.load_config(tmp_path)["_class_name"] == "DifficultyGuidedPipeline"


def test_extra_guide_on_a_pipeline_without_a_target_is_refused(pipeline):
    with pytest.raises(ValueError, match="only with a target difficulty"):
        call(pipeline, extra_guides=[tiny_classifier()])
