"""Options for speed: they change how images are computed, not which; one that does nothing says so."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from text_pipelines import made, qwen_image
from tiny import tiny_pipeline

from dag_diffusion import PoolConfig, TargetDistribution, fill_pool, score_pool
from dag_diffusion.acceleration import speed_up
from dag_diffusion.generation.precision import agreed_precision
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.loading import in_precision

CONFIG = PoolConfig(
    images_per_class=3,
    num_inference_steps=4,
    target=TargetDistribution.constant(0.5),
    # a shift in the last step, through a decoder of random weights, would make much of what is rounded differently
    difficulty_guidance=GuidanceConfig(stop=0.9),
)


@pytest.mark.parametrize("option", ["compiled", "channels_last", "vae_slicing"])
def test_faster_pipeline_draws_the_same_pool(tmp_path, pipeline, option):
    plain = fill_pool(pipeline, tmp_path / "plain", CONFIG)
    faster = tiny_pipeline()
    speed_up(faster, **{option: True})
    with torch.compiler.set_stance("force_eager"):  # compiling takes minutes
        pool = fill_pool(faster, tmp_path / "faster", CONFIG)
    for index in range(len(plain)):
        first, second = (np.asarray(p.open(index)).astype(int) for p in (plain, pool))
        assert np.abs(first - second).max() <= 1
    assert (tmp_path / "plain" / "pool.json").read_bytes() == (tmp_path / "faster" / "pool.json").read_bytes()


@torch.no_grad()
def test_decoder_with_convolutions_in_3d_decodes_the_same_in_another_layout():
    pipeline, latents = made(qwen_image), torch.randn(1, 4, 1, 4, 4, generator=torch.manual_seed(0))
    plain = pipeline.vae.decode(latents).sample
    speed_up(pipeline, channels_last=True)
    assert torch.allclose(pipeline.vae.decode(latents).sample, plain, atol=1e-5)


def test_compiled_parts_are_those_that_take_the_time(pipeline):
    speed_up(pipeline, compiled=True)
    compiled = [m for m in (pipeline.transformer, pipeline.vae.decoder) if m._compiled_call_impl is not None]
    assert len(compiled) == 2
    assert type(pipeline.transformer).__name__ == "DiTTransformer2DModel"  # so that it still saves as one


def test_xformers_that_is_absent_is_named(pipeline, monkeypatch):
    monkeypatch.setattr("dag_diffusion.acceleration.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed.*dag-diffusion\[xformers\]"):
        speed_up(pipeline, xformers=True)


def test_xformers_without_a_gpu_is_refused(pipeline, monkeypatch):
    monkeypatch.setattr("dag_diffusion.acceleration.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="CUDA"):
        speed_up(pipeline, xformers=True)


def test_xformers_that_does_not_fit_this_torch_is_a_plain_error(pipeline, monkeypatch):
    monkeypatch.setattr("dag_diffusion.acceleration.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ValueError, match="does not work here"):  # as diffusers finds out
        speed_up(pipeline, xformers=True)


def test_xformers_that_changes_nothing_says_so(pipeline, monkeypatch, caplog):
    monkeypatch.setattr("dag_diffusion.acceleration.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(type(pipeline), "enable_xformers_memory_efficient_attention", lambda self: None)
    speed_up(pipeline, xformers=True)
    assert "changes nothing" in caplog.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_holds_for_all_parts_but_a_vae_that_would_overflow(pipeline, dtype):
    in_precision(pipeline, dtype)
    assert pipeline.transformer.dtype == dtype
    assert next(pipeline.classifier.parameters()).dtype == dtype
    assert pipeline.vae.dtype == (torch.float32 if dtype == torch.float16 else dtype)


def test_half_precision_steers_and_is_recorded(tmp_path, pipeline):
    pool = fill_pool(in_precision(pipeline, torch.bfloat16), tmp_path / "pool", CONFIG)
    assert pool.provenance["dtype"] == "bfloat16"
    assert np.isfinite(pool.difficulties).all()
    with pytest.raises(ValueError, match="dtype was 'bfloat16' and is now 'float32'"):
        fill_pool(tiny_pipeline(), tmp_path / "pool", CONFIG, resume=True)


@pytest.fixture
def bfloat16_here(monkeypatch):
    """A function that says whether this processor has bfloat16."""
    return lambda has: monkeypatch.setattr("dag_diffusion.processor.has_bfloat16", lambda device: has)


def dtypes_of(pipeline):
    """Where the precisions of what each network gives and the scheduler gets are noted from now on."""
    seen, step = {}, pipeline.scheduler.step
    for name, part in (("transformer", pipeline.transformer), ("vae", pipeline.vae.decoder)):
        seen[name] = noted = set()
        part.register_forward_hook(lambda _, __, out, noted=noted: noted.add(out[0].dtype))
    seen["scheduler"] = noted = set()

    def watched(output, timestep, latents, **options):
        noted.update({output.dtype, latents.dtype})
        return step(output, timestep, latents, **options)

    pipeline.scheduler.step = watched
    return seen


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_networks_alone_compute_in_what_the_processor_has(tmp_path, pipeline, bfloat16_here, has, expected):
    bfloat16_here(has)
    seen = dtypes_of(pipeline)
    pool = fill_pool(pipeline, tmp_path / "pool", CONFIG)
    assert seen == {"transformer": {expected}, "vae": {expected}, "scheduler": {torch.float32}}
    assert pool.provenance["settings"]["precision"] == str(expected).removeprefix("torch.")
    assert pool.provenance["dtype"] == "float32"  # of the weights


def test_difficulty_of_a_bfloat16_pool_is_that_of_its_files_in_float32(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", replace(CONFIG, precision="bfloat16"))
    assert np.allclose(score_pool(pool, pipeline.classifier).difficulties, pool.difficulties, atol=1e-6)


def test_float32_pool_has_the_bits_of_the_pipeline(tmp_path, pipeline, bfloat16_here):
    bfloat16_here(True)
    pool = fill_pool(pipeline, tmp_path / "pool", replace(CONFIG, precision="float32"))
    rows = pool.rows
    again = pipeline(
        [row["label"] for row in rows],
        [row["target_difficulty"] for row in rows],
        num_inference_steps=4,
        difficulty_guidance=CONFIG.difficulty_guidance,
        generator=[torch.Generator().manual_seed(row["seed"]) for row in rows],
    )
    assert all(np.array_equal(image, pool.open(index)) for index, image in enumerate(again.images))


@pytest.mark.parametrize("begun", ["float32", "bfloat16", None])
def test_pool_goes_on_in_the_precision_that_it_was_begun_in(tmp_path, pipeline, bfloat16_here, begun):
    pool = fill_pool(pipeline, tmp_path / "pool", replace(CONFIG, precision=begun or "float32"))
    if begun is None:  # of a version that drew in float32 and did not say so
        record = dict(pool.provenance)
        record["settings"] = {
            k: v for k, v in record["settings"].items() if k not in ("precision", "guidance_interval")
        }
        (tmp_path / "pool" / "pool.json").write_text(json.dumps(record))
    bfloat16_here(begun != "bfloat16")
    pixels, missing = np.asarray(pool.open(0)), tmp_path / "pool" / pool.rows[0]["file_name"]
    missing.unlink()
    again = fill_pool(pipeline, tmp_path / "pool", CONFIG, resume=True)
    assert np.array_equal(again.open(0), pixels)
    other = "float32" if begun == "bfloat16" else "bfloat16"
    with pytest.raises(ValueError, match=f"precision was '{begun or 'float32'}' and is now '{other}'"):
        fill_pool(pipeline, tmp_path / "pool", replace(CONFIG, precision=other), resume=True)


def test_first_process_decides_for_those_with_other_processors(tmp_path, pipeline, bfloat16_here, monkeypatch):
    bfloat16_here(False)
    monkeypatch.setattr("dag_diffusion.generation.precision.gather", lambda own: ["bfloat16", own])
    assert agreed_precision("auto", pipeline) == "bfloat16"
    assert agreed_precision("float32", pipeline) == "float32"  # which fill_pool compares with the others


def test_weights_that_are_too_coarse_for_a_precision_are_refused(tmp_path, pipeline):
    in_precision(pipeline, torch.bfloat16)
    with pytest.raises(ValueError, match=r"weights are bfloat16.*dtype='float32'"):
        fill_pool(pipeline, tmp_path / "pool", replace(CONFIG, precision="float32"))
    with pytest.raises(ValueError, match="no precision 'int8'"):
        replace(CONFIG, precision="int8")
    assert not (tmp_path / "pool").exists()
