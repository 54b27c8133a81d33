"""A pool goes on with the parts that it was begun with alone: their weights, configurations and adapters."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    ImagePipelineOutput,
    PyramidAttentionBroadcastConfig,
    StableDiffusionPAGPipeline,
    UnCLIPScheduler,
)
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor
from peft import LoraConfig, get_peft_model
from PIL import Image
from pools_on_disk import content
from text_pipelines import flux, made, save_lora, stable_diffusion, stable_diffusion_xl, unet
from tiny import PREPROCESSING, tiny_classifier, tiny_pipeline, tiny_scheduler, tiny_vae

from dag_diffusion import PoolConfig, Prompts, SteerablePipeline, fill_pool, load_classifier
from dag_diffusion.loading import load_pipeline, load_text_pipeline

CONFIG = PoolConfig(images_per_class=1, num_inference_steps=2)
BETAS = np.linspace(1e-4, 0.02, 1000).tolist()
SWAPPED = {0: "Bag", 1: "Ankle boot, boot", 2: "T-shirt"}
CHANGED = {
    "class names of the guide": ({}, {"classifier": tiny_classifier(SWAPPED)}, r"configs\.guides"),
    "preprocessing of the guide": (
        {},
        {"classifier": tiny_classifier(preprocessing=PREPROCESSING | {"mean": [0.1]})},
        r"configs\.guides",
    ),
    "scale of the VAE": ({}, {"vae": tiny_vae(scaling_factor=1.0)}, r"configs\.vae"),
    "statistics of the VAE": ({}, {"vae": tiny_vae(latents_std=[1.0, 1.0, 1.0, 2.0])}, r"configs\.vae"),
    "list of the scheduler": (
        {"scheduler": tiny_scheduler(trained_betas=BETAS)},
        {"scheduler": tiny_scheduler(trained_betas=[*BETAS[:-1], 0.03])},
        r"scheduler\.trained_betas",
    ),
}


@pytest.mark.parametrize(("begun", "resumed", "told"), CHANGED.values(), ids=CHANGED)
def test_pool_is_not_resumed_with_another_configuration_of_the_same_weights(begun, resumed, told, tmp_path):
    fill_pool(tiny_pipeline(**begun), tmp_path / "pool", CONFIG)
    before = content(tmp_path / "pool")
    with pytest.raises(ValueError, match=f"begun with other settings: {told} was"):
        fill_pool(tiny_pipeline(**resumed), tmp_path / "pool", CONFIG, resume=True)
    assert content(tmp_path / "pool") == before


def test_pool_goes_on_wherever_its_models_are_and_names_those_that_are_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_pipeline().save_pretrained("pipe")
    tiny_classifier().save_pretrained("guide")
    config = PoolConfig(images_per_class=1, num_inference_steps=2, target=0.5)

    def fill(pipe, guide):
        pipeline = load_pipeline(pipe, classifier=guide, device="cpu")
        return fill_pool(pipeline, "pool", config, source=pipe, extra_guides=[load_classifier(guide)], resume=True)

    fill("pipe", "guide")
    before = content(tmp_path / "pool")
    Path("guide").rename("moved")
    fill(str(tmp_path / "pipe"), "./moved")
    assert content(tmp_path / "pool") == before
    torch.manual_seed(0)
    other = tiny_classifier()
    torch.nn.init.normal_(other.classifier[-1].weight)
    other.save_pretrained("other")
    with pytest.raises(ValueError, match=r"begun with other settings: guide was 'guide' and is now 'other'.*weights"):
        fill("pipe", "other")
    config = replace(config, seed=1)
    with pytest.raises(ValueError, match=r"begun with other settings: seed was 0 and is now 1; give"):
        fill("./pipe", "moved")


@pytest.mark.parametrize("change", [lambda p: p.disable_lora(), lambda p: p.set_adapters("default", 0.5)])
def test_pool_is_not_resumed_with_another_scale_of_a_lora(change, tmp_path):
    pipeline = made(stable_diffusion)
    save_lora(pipeline, tmp_path / "lora")
    drawer = SteerablePipeline(pipeline, None, ["T-shirt"], {"height": 16, "width": 16})
    config = PoolConfig(images_per_class=1, num_inference_steps=2, prompts=Prompts("a {class}"))
    fill_pool(drawer, tmp_path / "pool", config)
    assert len(fill_pool(drawer, tmp_path / "pool", config, resume=True)) == 1
    change(pipeline)
    with pytest.raises(ValueError, match=r"other settings: configs\.unet was"):
        fill_pool(drawer, tmp_path / "pool", config, resume=True)


def with_tiles(pipeline, size):
    pipeline.vae.enable_tiling()
    pipeline.vae.tile_latent_min_size = size


def with_ip_adapter(pipeline):
    """As ``load_ip_adapter`` leaves the layers of a U-Net, without an encoder of images."""
    layers = {
        name: IPAdapterAttnProcessor(16, 32) if name.endswith("attn2.processor") else AttnProcessor()
        for name in pipeline.unet.attn_processors
    }
    pipeline.unet.set_attn_processor(layers)
    return pipeline


def perturbed():
    return StableDiffusionPAGPipeline(
        **stable_diffusion().components, requires_safety_checker=False, pag_applied_layers="mid"
    )


class TwoSchedulersPipeline(DiffusionPipeline):
    def __init__(self, unet, scheduler, prior_scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, prior_scheduler=prior_scheduler)

    def __call__(self, prompt, height, width, num_inference_steps=1, generator=None):
        return ImagePipelineOutput(torch.rand(len(prompt), 3, height, width, generator=generator))


SWITCHED = {
    "another scheduler": (
        lambda: TwoSchedulersPipeline(unet(), tiny_scheduler(), UnCLIPScheduler()),
        lambda p: setattr(p, "prior_scheduler", UnCLIPScheduler(clip_sample_range=5.0)),
        r"prior_scheduler\.clip_sample_range was None and is now 5\.0",
    ),
    "FreeU": (stable_diffusion, lambda p: p.enable_freeu(0.9, 0.2, 1.5, 1.6), r"options\.unet"),
    "layers of PAG": (perturbed, lambda p: p.set_pag_applied_layers(["down"]), r"pipeline\.pag_applied_layers"),
    "pipeline's own": (
        stable_diffusion_xl,
        lambda p: p.register_to_config(force_zeros_for_empty_prompt=False),
        r"pipeline\.force_zeros_for_empty_prompt was None and is now False",
    ),
    "tokenizer": (
        stable_diffusion,
        lambda p: setattr(p.tokenizer, "model_max_length", 5),
        r"tokenizer\.model_max_length was 77 and is now 5",
    ),
    "tiles": (stable_diffusion, lambda p: with_tiles(p, 4), r"options\.vae"),
    "IP adapter": (
        lambda: with_ip_adapter(stable_diffusion()),
        lambda p: p.set_ip_adapter_scale(0.1),
        r"options\.unet\..*processor\.scale was \[1\.0\] and is now \[0\.1\]",
    ),
    "cache": (
        flux,
        lambda p: p.transformer.enable_cache(
            PyramidAttentionBroadcastConfig(2, current_timestep_callback=lambda: p._current_timestep)
        ),
        r"options\.transformer",
    ),
}


def prompted(pipeline):
    return SteerablePipeline(pipeline, None, ["T-shirt"], {"height": 16, "width": 16})


PROMPTED = PoolConfig(images_per_class=1, num_inference_steps=2, prompts=Prompts("a {class}"))


@pytest.mark.parametrize(("build", "change", "told"), SWITCHED.values(), ids=SWITCHED)
def test_pool_is_not_resumed_with_what_weights_and_configurations_do_not_tell(build, change, told, tmp_path):
    pipeline = made(build)
    fill_pool(prompted(pipeline), tmp_path / "pool", PROMPTED)
    assert len(fill_pool(prompted(pipeline), tmp_path / "pool", PROMPTED, resume=True)) == 1
    record = json.loads((tmp_path / "pool" / "pool.json").read_text())
    change(pipeline)
    with pytest.raises(ValueError, match=rf"begun with other settings: configs\.{told}"):
        fill_pool(prompted(pipeline), tmp_path / "pool", PROMPTED, resume=True)
    old = {name: digest for name, digest in record["configs"].items() if name in record["weights"]}
    (tmp_path / "pool" / "pool.json").write_text(json.dumps(record | {"configs": old}))  # of an earlier version
    assert len(fill_pool(prompted(pipeline), tmp_path / "pool", PROMPTED, resume=True)) == 1


def test_pool_is_resumed_from_the_saved_pipeline_and_with_what_only_saves_memory(tmp_path):
    pipeline = made(stable_diffusion_xl)
    fill_pool(prompted(pipeline), tmp_path / "pool", PROMPTED, source="tiny")
    pipeline.save_pretrained(tmp_path / "tiny")
    again = load_text_pipeline(tmp_path / "tiny", device="cpu")
    again.vae.enable_slicing()
    again.enable_attention_slicing()
    again.enable_freeu(0.9, 0.2, 1.5, 1.6)
    again.disable_freeu()
    assert len(fill_pool(prompted(again), tmp_path / "pool", PROMPTED, source="tiny", resume=True)) == 1


class HintedPipeline(DiffusionPipeline):
    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def __call__(self, class_labels, hint=None, num_inference_steps=1, generator=None):
        return ImagePipelineOutput(torch.rand(len(class_labels), 3, 16, 16, generator=generator))


def painted(colour, mode="RGB"):
    return Image.new("RGB", (4, 6), colour).convert(mode)


@pytest.mark.parametrize(
    ("hint", "other"),
    [
        (lambda: painted("red"), lambda: painted("blue")),
        (lambda: [painted("red", "P")], lambda: [painted("blue", "P")]),
        (lambda: {"of": np.eye(3)}, lambda: {"of": np.ones((3, 3))}),
        (lambda: torch.eye(3).bfloat16(), lambda: torch.eye(3)),
        (lambda: np.linspace(1.0, 0.0, 3), lambda: np.linspace(1.0, 0.1, 3)),
        (lambda: Path("hint.txt"), lambda: "other.txt"),
    ],
    ids=["image", "images", "array", "tensor", "row", "path"],
)
def test_pool_is_resumed_with_an_equal_argument_of_the_call_alone(hint, other, tmp_path):
    pipeline = HintedPipeline(unet(), tiny_scheduler())

    def fill(hint, **options):
        return fill_pool(
            SteerablePipeline(pipeline, None, ["cat"], {"hint": hint}), tmp_path / "pool", CONFIG, **options
        )

    fill(hint())
    assert len(fill(hint(), resume=True)) == 1
    with pytest.raises(ValueError, match=r"begun with other settings: drawn_by\.call\.hint"):
        fill(other(), resume=True)


def test_argument_of_the_call_that_no_record_knows_again_is_refused_at_once():
    with pytest.raises(ValueError, match="'hint' of the call is of the kind function"):
        SteerablePipeline(HintedPipeline(unet(), tiny_scheduler()), None, ["cat"], {"hint": [lambda: 0]})


def test_pool_of_a_denoiser_that_peft_wraps_counts_its_adapters(tmp_path):
    pipeline = tiny_pipeline()
    wrapped = get_peft_model(pipeline.transformer, LoraConfig(target_modules=["to_q"], r=2, init_lora_weights=False))
    pipeline.transformer = wrapped.eval()
    fill_pool(pipeline, tmp_path / "pool", CONFIG)
    assert len(fill_pool(pipeline, tmp_path / "pool", CONFIG, resume=True)) == 3
    with wrapped.disable_adapter(), pytest.raises(ValueError, match=r"other settings: configs\.transformer was"):
        fill_pool(pipeline, tmp_path / "pool", CONFIG, resume=True)


def test_pool_is_resumed_with_the_same_parts_from_a_folder(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", CONFIG, source="tiny")
    pipeline.save_pretrained(tmp_path / "tiny")
    again = load_pipeline(tmp_path / "tiny", device="cpu")
    again.classifier.config._name_or_path = ""
    assert len(fill_pool(again, tmp_path / "pool", CONFIG, source="tiny", resume=True)) == 3


def test_pool_from_before_configurations_were_recorded_is_resumed(tmp_path):
    pipeline = tiny_pipeline(scheduler=tiny_scheduler(trained_betas=BETAS))
    pool = fill_pool(pipeline, tmp_path / "pool", CONFIG)
    record = {name: value for name, value in pool.provenance.items() if name != "configs"}
    del record["scheduler"]["trained_betas"]
    (pool.path / "pool.json").write_text(json.dumps(record))
    assert len(fill_pool(pipeline, tmp_path / "pool", CONFIG, resume=True)) == 3


def test_order_in_which_classes_are_named_makes_no_other_pool(tmp_path):
    fill_pool(tiny_pipeline(), tmp_path / "pool", replace(CONFIG, labels=[2, 0]))
    before = content(tmp_path / "pool")
    fill_pool(tiny_pipeline(), tmp_path / "pool", replace(CONFIG, labels=[0, 2]), resume=True)
    assert content(tmp_path / "pool") == before
    with pytest.raises(ValueError, match="begun with other settings: labels"):
        fill_pool(tiny_pipeline(), tmp_path / "pool", replace(CONFIG, labels=[0, 1]), resume=True)
