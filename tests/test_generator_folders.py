"""Pipelines of diffusers' as people have them on disk: halves, LoRAs, single files, other tasks, no classes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForText2Image,
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    ControlNetModel,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    UNet2DModel,
)
from PIL import Image
from text_pipelines import made, save_lora, stable_diffusion, stable_diffusion_3
from tiny import tiny_pipeline

from dag_diffusion import DifficultyGuidedPipeline, PoolConfig, Prompts, SteerablePipeline, fill_pool
from dag_diffusion.identity import digest_of
from dag_diffusion.loading import load_pipeline, load_text_pipeline

PAGE = Path(__file__).parents[1] / "docs/how-to/prompts.md"
CALL = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "np"}


def drawn(pipeline) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline("a cat", generator=torch.manual_seed(0), **CALL).images


def unet(**changes) -> UNet2DModel:
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    sizes = {"sample_size": 16, "block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    return UNet2DModel(**blocks, **sizes, **changes).eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_pipeline_that_was_saved_in_half_draws_as_its_weights_do_in_full(tmp_path, dtype):
    saved = made(stable_diffusion).to(dtype)
    saved.save_pretrained(tmp_path)
    pipeline = load_text_pipeline(tmp_path, device="cpu")
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    assert np.abs(drawn(pipeline) - drawn(saved.to(torch.float32))).max() < 1e-5


def test_guide_of_a_pipeline_that_was_saved_in_half_measures_in_full(tmp_path):
    tiny_pipeline().to(torch.float16).save_pretrained(tmp_path)
    assert load_pipeline(tmp_path, device="cpu").classifier.dtype == torch.float32
    half = DifficultyGuidedPipeline.from_pretrained(tmp_path, dtype=torch.float16)
    assert half.classifier.dtype == torch.float16


@pytest.mark.parametrize(
    ("build", "load", "part"),
    [
        (lambda: made(stable_diffusion), load_text_pipeline, "text_encoder"),
        (tiny_pipeline, load_pipeline, "classifier"),
    ],
)
def test_weights_in_full_are_read_in_full_whatever_precision_their_configuration_names(tmp_path, build, load, part):
    saved = build()
    saved.save_pretrained(tmp_path)
    place = tmp_path / part / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text("utf-8")) | {"dtype": "float16"}))
    assert digest_of(getattr(load(tmp_path, device="cpu"), part)) == digest_of(getattr(saved, part))


def in_halves_alone(part, folder, **options):
    shutil.rmtree(folder)
    part.to(torch.float16).save_pretrained(folder, variant="fp16", **options)


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_part_that_is_there_in_half_precision_alone_is_read(tmp_path, part):
    saved = made(stable_diffusion)
    saved.save_pretrained(tmp_path)
    in_halves_alone(getattr(saved, part), tmp_path / part)
    assert np.abs(drawn(load_text_pipeline(tmp_path, device="cpu")) - drawn(saved.to(torch.float32))).max() < 1e-5


def test_decoder_that_is_there_in_half_precision_alone_is_read_by_our_pipeline(tmp_path):
    saved = tiny_pipeline()
    saved.save_pretrained(tmp_path)
    in_halves_alone(saved.vae, tmp_path / "vae")
    assert digest_of(load_pipeline(tmp_path, device="cpu").vae) == digest_of(saved.vae.to(torch.float32))


def test_shards_in_half_precision_that_older_versions_named_are_read(tmp_path):
    saved = made(stable_diffusion).to(torch.float16)
    saved.save_pretrained(tmp_path, variant="fp16", max_shard_size="20KB")
    named = re.compile(r"\.fp16(-\d+-of-\d+)\.")
    for file in (*(tmp_path / "unet").iterdir(), *(tmp_path / "vae").iterdir()):
        if file.suffix == ".json":
            file.write_text(named.sub(r"\1.fp16.", file.read_text("utf-8")))
        file.rename(file.with_name(named.sub(r"\1.fp16.", file.name)))
    assert list((tmp_path / "unet").glob("*-00001-of-0000?.fp16.safetensors"))
    assert np.abs(drawn(load_text_pipeline(tmp_path, device="cpu")) - drawn(saved.to(torch.float32))).max() < 1e-5


def test_stable_diffusion_3_that_was_saved_without_its_largest_text_encoder_draws(tmp_path):
    saved = made(stable_diffusion_3)
    saved.register_modules(text_encoder_3=None, tokenizer_3=None)
    saved.save_pretrained(tmp_path)
    assert np.abs(drawn(load_text_pipeline(tmp_path, device="cpu")) - drawn(saved)).max() < 1e-5


@pytest.mark.parametrize("kind", [StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline])
def test_pipeline_that_was_saved_to_draw_from_images_draws_from_prompts(tmp_path, kind):
    plain = made(stable_diffusion)
    kind(**plain.components, requires_safety_checker=False).save_pretrained(tmp_path)
    assert np.array_equal(drawn(load_text_pipeline(tmp_path, device="cpu")), drawn(plain))


def test_pipeline_that_draws_from_images_is_told_which_one_to_take():
    parts = made(stable_diffusion).components
    with pytest.raises(ValueError, match=r"draws from images.*AutoPipelineForText2Image\.from_pipe"):
        SteerablePipeline(StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False), None, ["cat"])


def test_pipeline_of_a_controlnet_is_told_to_need_an_image_and_draws_with_one(tmp_path):
    parts = made(stable_diffusion).components
    control = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 8))
    pipeline = StableDiffusionControlNetPipeline(**parts, controlnet=control, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match=r"give its 'image'.*from_pipe\(pipeline, controlnet=None\)"):
        SteerablePipeline(pipeline, None, ["cat", "dog"])
    plain = AutoPipelineForText2Image.from_pipe(pipeline, controlnet=None)
    assert np.array_equal(drawn(plain), drawn(made(stable_diffusion)))
    drawer = SteerablePipeline(pipeline, None, ["cat", "dog"], {"image": Image.new("RGB", (16, 16), "red")})
    config = PoolConfig(images_per_class=1, num_inference_steps=2, prompts=Prompts("a {class}"))
    assert len(fill_pool(drawer, tmp_path / "pool", config)) == 2


def test_lora_draws_from_a_folder_as_the_page_saves_it(tmp_path, monkeypatch):
    made(stable_diffusion).save_pretrained(tmp_path / "base")
    save_lora(made(stable_diffusion), tmp_path / "lora")
    monkeypatch.chdir(tmp_path)
    block = next(code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "fuse" in code)
    block = block.replace("stabilityai/stable-diffusion-xl-base-1.0", "base").replace("you/your-lora", "lora")
    exec(block, {})  # noqa: S102 - the page's own code
    worn = made(stable_diffusion)
    worn.load_lora_weights(tmp_path / "lora")
    found = drawn(load_text_pipeline("with-lora", device="cpu"))
    assert np.abs(found - drawn(worn)).max() < 1e-4
    assert np.abs(found - drawn(made(stable_diffusion))).max() > 0.01


def test_lora_beside_the_weights_is_refused_where_libraries_would_make_weights_up(tmp_path):
    save_lora(made(stable_diffusion), tmp_path / "lora")
    pipeline = made(stable_diffusion)
    pipeline.load_lora_weights(tmp_path / "lora")
    pipeline.save_pretrained(tmp_path / "worn")
    assert AutoPipelineForText2Image.from_pretrained(tmp_path / "worn") is not None  # with weights at random
    with pytest.raises(ValueError, match=r"LoRA beside its weights.*fuse_lora\(\)"):
        load_text_pipeline(tmp_path / "worn", device="cpu")


@pytest.mark.parametrize("load", [load_text_pipeline, load_pipeline])
def test_what_is_no_folder_of_a_pipeline_is_told_how_to_become_one(tmp_path, load):
    save_lora(made(stable_diffusion), tmp_path / "lora")
    with pytest.raises(ValueError, match=r"is a LoRA: .*prompts\.md"):
        load(tmp_path / "lora", device="cpu")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"is one file: .*prompts\.md"):
        load(tmp_path / "model.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        (lambda: DDPMPipeline(unet(), DDPMScheduler()), "DDPMPipeline, which draws no classes"),
        (
            lambda: ConsistencyModelPipeline(unet(), CMStochasticIterativeScheduler()),
            "in Python by a SteerablePipeline",
        ),
        (lambda: made(stable_diffusion), "StableDiffusionPipeline, which draws from prompts"),
    ],
)
def test_pipeline_of_another_kind_than_dit_is_told_what_it_is(tmp_path, pipeline, told):
    pipeline().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=told):
        load_pipeline(tmp_path, device="cpu")


def test_consistency_model_draws_each_label_whatever_the_batch(tmp_path):
    torch.manual_seed(0)
    pipeline = ConsistencyModelPipeline(
        unet(num_class_embeds=3, time_embedding_type="positional"), CMStochasticIterativeScheduler()
    )
    pipeline.set_progress_bar_config(disable=True)
    config = PoolConfig(images_per_class=2, num_inference_steps=1)
    pools = [
        fill_pool(SteerablePipeline(pipeline, None, ["cat", "dog"]), tmp_path / str(size), config, batch_size=size)
        for size in (1, 3)
    ]
    alone, together = (np.stack([np.asarray(pool.open(i)).astype(int) for i in range(4)]) for pool in pools)
    assert np.abs(alone - together).max() <= 1
    for row, image in zip(pools[0].rows, alone, strict=True):
        own = pipeline(class_labels=row["label"], generator=torch.manual_seed(row["seed"]), num_inference_steps=1)
        assert np.array_equal(image, np.asarray(own.images[0]))
