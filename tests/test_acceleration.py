"""Options for speed: they change how images are computed, not which; one that does nothing says so."""

import numpy as np
import pytest
import torch
from tiny import tiny_pipeline

from dag_diffusion import PoolConfig, TargetDistribution, fill_pool
from dag_diffusion.loading import in_precision, speed_up

CONFIG = PoolConfig(images_per_class=3, num_inference_steps=4, target=TargetDistribution.constant(0.5))


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


def test_compiled_parts_are_those_that_take_the_time(pipeline):
    speed_up(pipeline, compiled=True)
    compiled = [m for m in (pipeline.transformer, pipeline.vae.decoder) if m._compiled_call_impl is not None]
    assert len(compiled) == 2
    assert type(pipeline.transformer).__name__ == "DiTTransformer2DModel"  # so that it still saves as one


def test_xformers_that_is_absent_is_named(pipeline, monkeypatch):
    monkeypatch.setattr("dag_diffusion.loading.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed.*dag-diffusion\[xformers\]"):
        speed_up(pipeline, xformers=True)


def test_xformers_without_a_gpu_is_refused(pipeline, monkeypatch):
    monkeypatch.setattr("dag_diffusion.loading.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="CUDA"):
        speed_up(pipeline, xformers=True)


def test_xformers_that_does_not_fit_this_torch_is_a_plain_error(pipeline, monkeypatch):
    monkeypatch.setattr("dag_diffusion.loading.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ValueError, match="does not work here"):  # as diffusers finds out
        speed_up(pipeline, xformers=True)


def test_xformers_that_changes_nothing_says_so(pipeline, monkeypatch, caplog):
    monkeypatch.setattr("dag_diffusion.loading.find_spec", lambda name: object())
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
