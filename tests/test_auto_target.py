"""The target ``auto``: real images' difficulties, easier for small sets and harder for large ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny import tiny_pipeline, write_images

from dag_diffusion import PoolConfig, TargetDistribution, embedded, fill_pool, subsample
from dag_diffusion.sampling.auto_target import AutoTarget, exponent, of_size
from dag_diffusion.sampling.scales import RawScale
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import even_levels

REAL = TargetDistribution.from_reference({"Bag": np.linspace(0, 1, 501) ** 3})


def mean_of(target, ipc, name="Bag"):
    return target.values(name, RawScale(), ipc).mean()


@given(arrays(float, st.integers(1, 60), elements=st.floats(0, 1)), st.integers(1, 500))
def test_asks_for_difficulties_of_real_images_that_rise_with_size(real, ipc):
    target = AutoTarget(TargetDistribution.from_reference(real))
    values, larger = (target.values("", RawScale(), size) for size in (ipc, 2 * ipc))
    assert set(values) <= set(real)
    assert (np.diff(values) >= 0).all()
    assert (values <= larger).all()
    assert target.quotas("", ipc, RawScale()).sum() == ipc


@given(arrays(float, st.integers(1, 2000), elements=st.sampled_from([0.0, 0.1, 0.25, 0.9, 1.0])), st.integers(1, 500))
def test_is_the_inverted_distribution_of_real_images_at_moved_levels(real, ipc):
    levels = even_levels(max(1000, len(real))) ** exponent(ipc)
    moved = AutoTarget(TargetDistribution.from_reference({"cat": real}), ipc=ipc).values("cat", RawScale())
    np.testing.assert_array_equal(moved, np.quantile(real, levels, method="inverted_cdf"))


def test_exponent_of_one_is_the_real_images_themselves():
    ipc = min(range(1, 4000), key=lambda size: abs(exponent(size) - 1))
    assert mean_of(AutoTarget(REAL), ipc) == pytest.approx(mean_of(REAL, ipc), rel=0.05)
    assert exponent(1) > exponent(10) > 1


def test_words_name_real_images(tmp_path):
    write_images(tmp_path / "real: 2", {"Bag": 4, "Coat": 4}, difficulty=lambda name, index: index / 10)
    bag = embedded.training_difficulties({0: "Bag"})["Bag"]
    assert as_target("auto", {0: "Bag"}).text == "auto"
    assert mean_of(as_target("auto"), 1) < bag.mean()
    target = as_target(f"auto:{tmp_path / 'real: 2'}", {0: "Bag"})
    assert set(target.values("Bag", RawScale(), 10)) <= {0, 0.1, 0.2, 0.3}
    assert target.text == f"auto:{tmp_path / 'real: 2'}"
    assert as_target("auto", reference=REAL).reference is REAL
    with pytest.raises(ValueError, match="'nowhere' is no folder"):
        as_target("auto:nowhere", {0: "Bag"})


def test_pool_is_not_steered_to_it_unless_the_size_is_told(tmp_path):
    names = {"T-shirt": [0.1, 0.5], "Ankle boot, boot": [0.1, 0.5], "Bag": [0.1, 0.5]}
    target = TargetDistribution.mixture([AutoTarget(TargetDistribution.from_reference(names)), as_target(0.5)])
    config = PoolConfig(images_per_class=1, target=target, num_inference_steps=2, guidance_scale=1.0)
    with pytest.raises(ValueError, match="depends on the images per class, which a pool does not tell"):
        fill_pool(tiny_pipeline(), tmp_path / "pool", config)
    known = of_size(TargetDistribution.per_class({"Bag": target}), 10)
    assert len(known.difficulties("Bag", 3)) == 3


def test_record_tells_rule_and_real_images_and_sets_of_two_sizes_differ():
    pool, labels = np.linspace(0, 1, 400), np.zeros(400, int)
    sets = subsample(pool, [2, 50], labels=labels, class_names={0: "Bag"}, target=AutoTarget(REAL))
    assert pool[sets[2].indices].mean() < pool[sets[50].indices].mean()
    recorded = sets[50].record["target"]
    assert recorded["auto"]["per_doubling"] > 0
    assert recorded["reference"]["Bag"][0] == 501
