"""Images made in groups: the best noise of all candidates, whole groups in every batch, the same pool by any means."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pools_on_disk import content
from test_generation import Killed, kill_at
from typer.testing import CliRunner

from dag_diffusion import PoolConfig, fill_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.generation import noise_sets
from dag_diffusion.generation.batches import batches
from dag_diffusion.generation.drawing.by_labels import LabelDrawer
from dag_diffusion.generation.noise_sets import best_candidate, candidate_of, irregularity, with_chosen_noise
from dag_diffusion.generation.plan import ImageJob, image_seed, plan, seed_after
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance
from dag_diffusion.hub.cards import dataset_card
from dag_diffusion.reporting.reproduction import commands_of

NAMES = {0: "T-shirt", 1: "Ankle boot, boot", 2: "Bag"}
PLAIN = PoolConfig(images_per_class=5, num_inference_steps=2, guidance_scale=1.0, precision="float32")
CHOSEN = replace(PLAIN, group_size=3, noise_candidates=4)
PUSHED = replace(PLAIN, group_size=3, diversity=DiversityGuidance(scale=0.3))
BOTH = replace(CHOSEN, diversity=DiversityGuidance(scale=0.3))


def noise_of(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 8), st.integers(2, 5), st.integers(0, 10**6))
def test_chosen_set_is_the_most_regular_of_all_candidates(candidates, count, seed):
    seeds = [image_seed(seed, 0, index) for index in range(count)]
    sets = [torch.stack([noise_of(seed_after(s, c)) for s in seeds]) for c in range(candidates)]
    errors = [float(irregularity(noise[None])) for noise in sets]
    assert best_candidate(seeds, candidates, noise_of) == int(np.argmin(errors))


def test_candidates_beyond_a_block_are_looked_at_too(monkeypatch):
    whole = best_candidate([1, 2, 3], 30, noise_of)
    monkeypatch.setattr(noise_sets, "BLOCK", 7)
    assert best_candidate([1, 2, 3], 30, noise_of) == whole


def test_irregularity_sees_a_shifted_a_narrow_and_a_lopsided_set():
    even = torch.randn(1, 40, 16, 16, generator=torch.Generator().manual_seed(0))
    lopsided = (even.exp() - even.exp().mean()) / even.exp().std()
    for worse in (even + 1, even * 0.5, lopsided):
        assert irregularity(worse) > irregularity(even)


def test_noise_of_a_drawer_is_that_of_the_pipeline_and_asks_the_network_once(pipeline, monkeypatch):
    asked = []
    dtype = type(pipeline.transformer).dtype
    monkeypatch.setattr(type(pipeline.transformer), "dtype", property(lambda own: asked.append(1) or dtype.fget(own)))
    drawer = LabelDrawer(pipeline)
    noise = [drawer.noise(seed) for seed in range(3)]
    assert len(asked) == 1  # diffusers walks through all of its parts each time, 2 ms, and candidates are thousands
    expected = pipeline.prepare_latents(3, [torch.Generator().manual_seed(seed) for seed in range(3)], None)
    assert torch.equal(torch.stack(noise), expected)


def test_one_candidate_leaves_the_seeds_of_plain_pools():
    jobs = plan(replace(PUSHED, images_per_class=7), NAMES)
    assert with_chosen_noise(jobs, 1, noise_of) == jobs
    plain = {job.file_name: job.seed for job in plan(replace(PLAIN, images_per_class=7), NAMES)}
    assert {job.file_name: job.seed for job in jobs} == plain


def test_choice_of_a_class_depends_on_no_other_and_image_without_company_keeps_its_seed():
    config = replace(CHOSEN, images_per_class=7)  # the third group of a class is a single image
    chosen = {job.file_name: job.seed for job in with_chosen_noise(plan(config, NAMES), 20, noise_of)}
    alone = with_chosen_noise(plan(replace(config, labels=[2]), NAMES), 20, noise_of)
    assert all(chosen[job.file_name] == job.seed for job in alone)
    assert [job.seed == image_seed(0, 2, index) for index, job in enumerate(alone)] == [False] * 6 + [True]


@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_processes_chooses_the_same(count, monkeypatch):
    jobs, shares = plan(BOTH, NAMES), []
    whole = with_chosen_noise(jobs, 4, noise_of)
    for index in range(count):
        monkeypatch.setattr(noise_sets, "this_process", lambda index=index: Process(index, count))
        monkeypatch.setattr(noise_sets, "gather", lambda found: shares.append(found) or [found])
        with_chosen_noise(jobs, 4, noise_of)
    monkeypatch.setattr(noise_sets, "gather", lambda found: shares)
    assert with_chosen_noise(jobs, 4, noise_of) == whole


class Process:
    def __init__(self, index: int, count: int) -> None:
        self.process_index, self.num_processes = index, count


def test_noise_is_what_the_pipeline_draws(pipeline):
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    drawn = pipeline.prepare_latents(2, generators, None)
    assert torch.equal(torch.stack([LabelDrawer(pipeline).noise(seed) for seed in (5, 6)]), drawn)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 20))
def test_batches_hold_whole_groups_and_every_image_once(per_class, group_size, batch_size):
    config = PoolConfig(images_per_class=per_class + 1, group_size=group_size + 1, diversity=DiversityGuidance(scale=1))
    jobs = plan(config, NAMES)
    cut = list(batches(jobs, batch_size))
    assert [job for batch in cut for job in batch] == jobs
    where = {(job.label, job.group): {i for i, batch in enumerate(cut) if job in batch} for job in jobs}
    assert all(len(found) == 1 for found in where.values())
    assert all(len(batch) <= max(batch_size, group_size + 1) for batch in cut)


@given(st.integers(1, 30), st.integers(1, 40))
def test_batches_of_single_images_are_full(count, size):
    jobs = [ImageJob(f"{i}.png", 0, "Bag", i, None) for i in range(count)]
    assert [len(batch) for batch in batches(jobs, size)][:-1] == [size] * ((count - 1) // size)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Pools of chosen noise and of pushed images."""
    from tiny import tiny_pipeline

    folder = tmp_path_factory.mktemp("grouped")
    return {
        name: fill_pool(tiny_pipeline(), folder / name, config, batch_size=50)
        for name, config in {"plain": PLAIN, "chosen": CHOSEN, "both": BOTH}.items()
    }


def test_rows_tell_group_and_seed_and_plain_pools_are_as_ever(grouped):
    assert [row["group"] for row in grouped["both"].rows[:5]] == [0, 0, 0, 1, 1]
    assert [row["seed"] for row in grouped["both"].rows] == [row["seed"] for row in grouped["chosen"].rows]
    assert [row["seed"] for row in grouped["both"].rows] != [row["seed"] for row in grouped["plain"].rows]
    assert "group" not in grouped["plain"].rows[0]
    settings = {name: pool.provenance["settings"] for name, pool in grouped.items()}
    assert not {"group_size", "noise_candidates", "diversity"} & set(settings["plain"])
    assert (settings["both"]["group_size"], settings["both"]["noise_candidates"]) == (3, 4)
    assert settings["both"]["diversity"]["scale"] == 0.3


def test_image_of_chosen_noise_is_drawn_again_from_its_row(grouped, pipeline):
    row = grouped["chosen"].rows[4]
    options = {"num_inference_steps": 2, "guidance_scale": 1.0}
    again = pipeline(row["label"], generator=torch.Generator().manual_seed(row["seed"]), **options).images[0]
    assert np.abs(np.asarray(again).astype(int) - np.asarray(grouped["chosen"].open(4)).astype(int)).max() <= 1


def test_pushed_images_do_not_depend_on_the_batch_size(grouped, pipeline, tmp_path):
    small = fill_pool(pipeline, tmp_path / "pool", BOTH, batch_size=1)
    for place, row in enumerate(small.rows):
        assert row["seed"] == grouped["both"].rows[place]["seed"]
        pair = [np.asarray(pool.open(place)).astype(int) for pool in (small, grouped["both"])]
        assert np.abs(pair[0] - pair[1]).max() <= 1


def test_interrupted_pool_of_groups_resumes_to_the_same_files(pipeline, tmp_path):
    whole = fill_pool(pipeline, tmp_path / "whole", BOTH, batch_size=4)
    with pytest.raises(Killed):
        fill_pool(pipeline, tmp_path / "killed", BOTH, batch_size=4, progress=kill_at(4))
    (tmp_path / "killed" / "0_T-shirt" / "00001.png").unlink(missing_ok=True)  # one of a group
    fill_pool(pipeline, tmp_path / "killed", BOTH, batch_size=4, resume=True)
    assert content(whole.path) == content(tmp_path / "killed")


def test_noise_of_groups_that_have_an_image_is_not_chosen_again(pipeline, tmp_path, monkeypatch):
    whole = fill_pool(pipeline, tmp_path / "whole", CHOSEN)
    fill_pool(pipeline, tmp_path / "pool", CHOSEN)
    for name in ("0_T-shirt/00000.png", "2_Bag/00004.png"):
        (tmp_path / "pool" / name).unlink()
    monkeypatch.setattr(noise_sets, "irregularity", None)
    fill_pool(pipeline, tmp_path / "pool", CHOSEN, resume=True)
    assert content(whole.path) == content(tmp_path / "pool")


@given(st.integers(0, 7), st.integers(0, 4), st.integers(0, 10**6))
def test_candidate_is_told_by_the_seed_of_any_image_that_was_not_drawn_again(candidate, place, seed):
    jobs = [ImageJob(f"{i}.png", 0, "cat", image_seed(seed, 0, i), None) for i in range(5)]
    drawn = {jobs[place].file_name: seed_after(jobs[place].seed, candidate)}
    assert candidate_of(jobs, 8, drawn) == candidate
    assert candidate_of(jobs, 8, {}) is None
    assert candidate_of(jobs, 8, {jobs[place].file_name: 1}) is None


@pytest.mark.parametrize("change", [{"group_size": 2}, {"noise_candidates": 5}, {"diversity": DiversityGuidance()}])
def test_pool_goes_on_with_the_same_groups_alone(change, pipeline, tmp_path):
    fill_pool(pipeline, tmp_path / "pool", BOTH)
    with pytest.raises(ValueError, match="begun with other settings"):
        fill_pool(pipeline, tmp_path / "pool", replace(BOTH, **change), resume=True)


def test_group_that_does_not_fit_into_memory_is_not_divided(pipeline, tmp_path, monkeypatch):
    def too_much(self, config, jobs):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(LabelDrawer, "draw", too_much)
    with pytest.raises(RuntimeError, match="out of memory"):
        fill_pool(pipeline, tmp_path / "pool", PUSHED)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"noise_candidates": 0}, "among 0 candidates"),
        ({"noise_candidates": 5, "group_size": 1}, "make no group"),
        ({"noise_candidates": 5, "images_per_class": 1}, "make no group"),
        ({"diversity": DiversityGuidance(scale=1), "group_size": 0}, "make no group"),
    ],
)
def test_groups_that_make_no_sense_are_refused(change, told):
    with pytest.raises(ValueError, match=told):
        PoolConfig(**change)


def generate(pipeline, output, *options):
    small = ["--images-per-class", 4, "--num-inference-steps", 2, "--quiet"]
    return CliRunner().invoke(
        app, [str(each) for each in ["generate", output, "--pipeline", pipeline, *small, *options]]
    )


def test_options_of_groups_reach_the_pool(saved_pipeline, tmp_path):
    options = ["--noise-candidates", 3, "--diversity", 0.1, "--group-size", 2, "--target", 0.5]
    made = generate(saved_pipeline, tmp_path / "pool", *options)
    assert made.exit_code == 0, made.output
    settings = json.loads((tmp_path / "pool" / "pool.json").read_text())["settings"]
    assert (settings["group_size"], settings["noise_candidates"], settings["diversity"]["scale"]) == (2, 3, 0.1)


def test_card_and_command_of_a_pool_tell_its_groups(grouped):
    pool = grouped["both"]
    (command,) = commands_of(pool.provenance)
    assert "--group-size 3 --noise-candidates 4 --diversity 0.3" in command
    card = dataset_card(pool, "me/pool", title="Pool")
    assert "of 3, noise chosen among 4 candidates, pushed apart at scale 0.3" in card
    assert "among those of its class, that it was made in" in card
    assert not any(word in commands_of(grouped["plain"].provenance)[0] for word in ("group", "noise", "diversity"))
    assert "made in groups" not in dataset_card(grouped["plain"], "me/pool", title="Pool")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--diversity", "-1"], "scale >= 0"),
        (["--diversity", "nan"], "scale >= 0"),
        (["--diversity", "0.1", "--group-size", "1"], "--group-size"),
        (["--noise-candidates", "0"], "among 0 candidates"),
        (["--noise-candidates", "many"], "--noise-candidates"),
    ],
)
def test_impossible_groups_are_told_in_one_line(options, told, saved_pipeline, tmp_path):
    result = generate(saved_pipeline, tmp_path / "pool", *options)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "pool").exists()
