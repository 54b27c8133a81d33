"""A pool goes on with the parts that it was begun with alone: their weights, configurations and adapters."""

import json

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from pools_on_disk import content
from text_pipelines import made, save_lora, stable_diffusion
from tiny import PREPROCESSING, tiny_classifier, tiny_pipeline, tiny_scheduler, tiny_vae

from dag_diffusion import PoolConfig, Prompts, SteerablePipeline, fill_pool
from dag_diffusion.loading import load_pipeline

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
