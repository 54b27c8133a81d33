"""The guidance block of modular pipelines: images as hard as asked, by the maths of ``steer``, shared as a folder."""

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler
from diffusers.modular_pipelines import ModularPipelineBlocks
from text_pipelines import flux, made, stable_diffusion_3, stable_diffusion_xl, tiny_decoder
from tiny import tiny_classifier

from dag_diffusion import DifficultyGuidanceBlock, GuidanceConfig, Steered, steer, with_guidance

FAMILIES = {
    "StableDiffusionXL": (stable_diffusion_xl, {"height": 16, "width": 16}),
    "StableDiffusion3": (stable_diffusion_3, {"height": 16, "width": 16}),
    "Flux": (flux, {"height": 16, "width": 24}),  # packed latents do not tell which of the two is longer
}
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
LABELS, OUTPUTS = [0, 1], ["images", "difficulties"]
WIDE = GuidanceConfig(max_norm=4.0)  # decoders of random weights are less steep than trained ones


@pytest.fixture(scope="module")
def guide():
    return tiny_classifier()


def blocks_of(family):
    return getattr(diffusers, f"{family}AutoBlocks")().get_workflow("text2image")


def pipeline_of(family, blocks, **more):
    plain, pipeline = made(FAMILIES[family][0]), blocks.init_pipeline()
    parts = {name: getattr(plain, name, None) for name in pipeline.component_names}
    pipeline.update_components(**{name: part for name, part in parts.items() if part is not None}, **more)
    return pipeline


def drawn(pipeline, family, steps=20, output="images", **options):
    generator = torch.Generator().manual_seed(0)
    options = {"output_type": "pt"} | options | FAMILIES[family][1]
    options |= {"num_inference_steps": steps, "generator": generator}
    return pipeline(prompt=["a bag", "a coat"], output=output, **options)


@EVERY_FAMILY
def test_without_a_target_no_bit_changes(family):
    plain, guided = pipeline_of(family, blocks_of(family)), pipeline_of(family, with_guidance(blocks_of(family)))
    assert torch.equal(drawn(guided, family, steps=3), drawn(plain, family, steps=3))


@EVERY_FAMILY
def test_images_become_as_hard_as_asked(family, guide):
    pipeline, targets = (
        pipeline_of(family, with_guidance(blocks_of(family)), classifier=guide),
        torch.tensor([0.2, 0.7]),
    )
    options = {"class_labels": LABELS, "target_difficulty": targets, "difficulty_guidance": WIDE, "output": OUTPUTS}
    drawn_once = drawn(pipeline, family, **options)
    found = Steered(pipeline.vae, [guide], LABELS, None, WIDE).measure(drawn_once["images"])
    assert (found - targets).abs().max() < 0.15
    assert torch.equal(drawn_once["difficulties"], found)


@pytest.mark.parametrize("output_type", ["pil", "np"])
def test_images_are_measured_without_a_target_too_in_the_form_that_is_handed_out(output_type, guide):
    family = "StableDiffusionXL"
    pipeline = pipeline_of(family, with_guidance(blocks_of(family)), classifier=guide)
    options = {"class_labels": ["boot", "bag"], "output_type": output_type}
    found = drawn(pipeline, family, steps=2, output=OUTPUTS, **options)
    with steer(pipeline, guide, ["boot", "bag"]) as steered:
        assert torch.equal(found["difficulties"], steered.measure(found["images"]))


@pytest.mark.parametrize("options", [{}, {"class_labels": LABELS, "output_type": "latent"}], ids=["labels", "images"])
def test_what_cannot_be_measured_has_no_difficulties(options, guide):
    family = "StableDiffusionXL"
    pipeline = pipeline_of(family, with_guidance(blocks_of(family)), classifier=guide)
    assert drawn(pipeline, family, steps=2, output=OUTPUTS, **options)["difficulties"] is None


def test_block_does_what_steer_does(guide):
    family, options = "StableDiffusionXL", {"class_labels": "boot", "target_difficulty": 0.7}
    plain = pipeline_of(family, blocks_of(family))
    with steer(plain, guide, **options, config=WIDE):
        steered = drawn(plain, family, steps=6)
    pipeline = pipeline_of(family, with_guidance(blocks_of(family)), classifier=guide)
    assert torch.equal(drawn(pipeline, family, steps=6, **options, difficulty_guidance=WIDE), steered)


def test_gradients_may_come_from_a_tiny_decoder_as_in_steer(guide):
    family, options = "StableDiffusionXL", {"class_labels": "boot", "target_difficulty": 0.7}
    tiny = tiny_decoder()
    plain = pipeline_of(family, blocks_of(family))
    with steer(plain, guide, **options, config=WIDE, guidance_vae=tiny):
        steered = drawn(plain, family, steps=3)
    pipeline = pipeline_of(family, with_guidance(blocks_of(family)), classifier=guide)
    assert torch.equal(
        drawn(pipeline, family, steps=3, **options, difficulty_guidance=WIDE, guidance_vae=tiny), steered
    )


def test_runs_do_not_depend_on_what_was_drawn_before(guide):
    family, options = "StableDiffusionXL", {"class_labels": LABELS, "difficulty_guidance": WIDE}
    pipeline = pipeline_of(family, with_guidance(blocks_of(family)), classifier=guide)
    first = drawn(pipeline, family, steps=4, target_difficulty=0.7, **options)
    drawn(pipeline, family, steps=6, target_difficulty=0.2, **options)
    assert torch.equal(drawn(pipeline, family, steps=4, target_difficulty=0.7, **options), first)


def test_block_is_shared_as_a_folder_and_guides_when_loaded(guide, tmp_path):
    family, options = (
        "StableDiffusionXL",
        {"class_labels": LABELS, "target_difficulty": 0.7, "difficulty_guidance": WIDE},
    )
    DifficultyGuidanceBlock().save_pretrained(tmp_path / "block")
    loaded = ModularPipelineBlocks.from_pretrained(tmp_path / "block", trust_remote_code=True)
    own, shared = (
        pipeline_of(family, with_guidance(blocks_of(family), block), classifier=guide) for block in (None, loaded)
    )
    assert type(loaded) is not DifficultyGuidanceBlock
    assert torch.equal(*(drawn(pipeline, family, steps=4, **options) for pipeline in (own, shared)))


def test_component_of_the_guide_is_declared_and_so_are_inputs():
    blocks = with_guidance(blocks_of("Flux"))
    assert {"classifier", "vae"} <= set(blocks.init_pipeline().component_names)
    assert {"class_labels", "target_difficulty", "difficulty_guidance"} <= set(blocks.input_names)


@EVERY_FAMILY
def test_blocks_that_were_given_stay_as_they_are(family):
    with_guidance(blocks_of(family))  # some loops are shared by all blocks of their class
    assert "target_difficulty" not in blocks_of(family).input_names


# -- refusals


def test_blocks_that_cannot_be_guided_are_refused():
    with pytest.raises(ValueError, match="has guidance already"):
        with_guidance(with_guidance(blocks_of("Flux")))
    with pytest.raises(ValueError, match="no loop"):
        with_guidance(DifficultyGuidanceBlock())


@pytest.mark.parametrize(
    ("options", "parts", "told"),
    [
        ({}, {}, "needs class_labels"),
        ({"class_labels": LABELS}, {"classifier": None}, "needs classifier"),
        ({"class_labels": [0, 1, 2]}, {}, "3 class labels for 2 images"),
        ({"class_labels": LABELS}, {"scheduler": EDMEulerScheduler()}, "EDMEulerScheduler is not supported"),
        ({"class_labels": LABELS}, {"scheduler": DDIMScheduler()}, "clip_sample=False"),
    ],
    ids=["labels", "guide", "count", "scheduler", "clipping"],
)
def test_call_that_makes_no_sense_is_refused_with_a_way_out(options, parts, told, guide):
    pipeline = pipeline_of("StableDiffusionXL", with_guidance(blocks_of("StableDiffusionXL")), classifier=guide)
    for name, part in parts.items():
        setattr(pipeline, name, part)
    with pytest.raises(ValueError, match=told):
        drawn(pipeline, "StableDiffusionXL", steps=2, target_difficulty=0.5, **options)
