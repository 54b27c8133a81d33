"""Pools from prompts and from pipelines of one's own: what pools of our pipeline have, and no image of one colour."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.utils import BaseOutput
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pools_on_disk import content
from text_pipelines import (
    FlowTransformerPipeline,
    flux,
    kl,
    made,
    qwen_image,
    sana,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
)
from tiny import NAMES, tiny_classifier, tiny_transformer
from typer.testing import CliRunner

from dag_diffusion import (
    GuidanceConfig,
    ModeGuidance,
    Modes,
    PoolConfig,
    Prompts,
    SteerablePipeline,
    TargetDistribution,
    fill_pool,
    read_pool,
    score_pool,
    steer,
)
from dag_diffusion.acceleration import speed_up
from dag_diffusion.cli import commands as cli
from dag_diffusion.data.images import is_of_one_colour
from dag_diffusion.generation.drawing.prompts import as_prompts
from dag_diffusion.generation.drawing.steerable import revision_of
from dag_diffusion.generation.modes import load_modes, require_modes_of, space_of
from dag_diffusion.generation.plan import image_seed, plan, seed_after
from dag_diffusion.generation.preparing.mode_search import encode
from dag_diffusion.generation.repairing.first_images import FIRST, with_colours
from dag_diffusion.generation.repairing.repair import Repair
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance
from dag_diffusion.pipelines.latents import scaled, unscaled
from dag_diffusion.reporting.reproduction import commands_of

SMALL = {"height": 16, "width": 16}
CLASSES = ["T-shirt", "boot"]
PROMPTS = Prompts(["a photo of a {class}", "a sketch of a {class}"], negative="blurred")
CONFIG = PoolConfig(images_per_class=2, num_inference_steps=2, prompts=PROMPTS)
STEERED = replace(
    CONFIG,
    num_inference_steps=12,
    target=TargetDistribution.constant(0.7),
    difficulty_guidance=GuidanceConfig(max_norm=4.0),
)
KINDS = pytest.mark.parametrize(
    "build", [stable_diffusion, stable_diffusion_xl, stable_diffusion_3], ids=lambda build: build.__name__
)


@pytest.fixture(scope="module")
def guide():
    return tiny_classifier()


def drawer(build=stable_diffusion, guide=None, classes=CLASSES, **options):
    return SteerablePipeline(made(build), guide, classes, SMALL, **options)


def pixels(pool):
    return np.stack([np.asarray(pool.open(i)).astype(int) for i in range(len(pool))])


# -- prompts


@given(
    st.lists(st.text("ab ", min_size=1, max_size=5).map("a {class}".__add__), min_size=1, max_size=3), st.integers(1, 7)
)
def test_images_of_a_class_take_the_templates_in_turn(templates, count):
    config = PoolConfig(images_per_class=count, prompts=Prompts(templates))
    jobs = sorted(plan(config, {3: "Ankle boot, boot"}), key=lambda job: job.file_name)
    assert [job.prompt for job in jobs] == [
        templates[i % len(templates)].replace("{class}", "Ankle boot") for i in range(count)
    ]


@pytest.mark.parametrize(
    ("name", "spoken"),
    [("aquarium_fish", "aquarium fish"), ("n01440764", "tench"), ("tench, Tinca tinca", "tench"), ("7", "7")],
)
def test_class_is_called_in_a_prompt_as_people_say_it(name, spoken):
    assert Prompts("one {class}").of_classes({0: name}) == {0: [f"one {spoken}"]}


def test_classes_have_prompts_of_their_own_in_a_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"Boot": ["a boot on a shelf", "a {class}"], "t-shirt": "a shirt"}))
    prompts = as_prompts([str(path)], "dark")
    assert prompts.of_classes({0: "T-shirt", 1: "Ankle boot, boot"}) == {
        0: ["a shirt"],
        1: ["a boot on a shelf", "a Ankle boot"],
    }
    assert prompts.class_names == ["Boot", "t-shirt"]
    with pytest.raises(ValueError, match="no class called 'Bag'"):
        prompts.of_classes({0: "Bag"})


@pytest.mark.parametrize(
    ("templates", "told"),
    [
        ([], "no prompts"),
        ({}, "no prompts"),
        ("a photo", "all classes alike"),
        (["a {class}", ""], "is ''"),
        ({"Bag": []}, "are none"),
        ({"Bag": [3]}, "is 3"),
        ({"Bag": None}, "is None"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(templates, told):
    with pytest.raises(ValueError, match=told):
        Prompts(templates)


def test_file_of_prompts_that_is_absent_is_told():
    with pytest.raises(FileNotFoundError, match="no file of prompts"):
        as_prompts(["no such.json"])


# -- pools


@KINDS
def test_pool_from_prompts_has_what_pools_have(build, guide, tmp_path):
    pool = fill_pool(drawer(build, guide), tmp_path / "pool", CONFIG, source="tiny")
    rows = sorted(pool.rows, key=lambda row: row["file_name"])
    assert [(row["class_name"], row["prompt"]) for row in rows] == [
        ("T-shirt", "a photo of a T-shirt"),
        ("T-shirt", "a sketch of a T-shirt"),
        ("boot", "a photo of a boot"),
        ("boot", "a sketch of a boot"),
    ]
    assert [row["seed"] for row in rows] == [image_seed(0, label, index) for label in (0, 1) for index in (0, 1)]
    assert score_pool(pool, guide).difficulties == pytest.approx(pool.difficulties, abs=1e-6)
    record = pool.provenance
    assert (record["pipeline"], record["redrawn"]) == ("tiny", 0)
    assert record["settings"]["prompts"]["negative"] == "blurred"
    assert record["settings"]["guidance_scale"] > 1
    assert record["drawn_by"]["class"] == type(made(build)).__name__
    assert (record["drawn_by"]["safety_checker"], record["drawn_by"]["watermark"]) == (False, False)


@KINDS
def test_steered_images_come_near_their_targets(build, guide, tmp_path):
    painter = drawer(build, guide)
    plain = fill_pool(painter, tmp_path / "plain", replace(STEERED, target=None))
    steered = fill_pool(painter, tmp_path / "steered", STEERED)
    far, near = (np.abs(pool.difficulties - 0.7).mean() for pool in (plain, steered))
    assert near < 0.1
    assert near < far


def noisy(build, guide=None):
    """A pipeline whose scheduler draws noise at every step; the flow pipeline hands it no generator."""
    painter = drawer(build, guide)
    scheduler = painter.pipeline.scheduler
    painter.pipeline.scheduler = (
        type(scheduler).from_config(scheduler.config, stochastic_sampling=True)
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        else DDPMScheduler.from_config(scheduler.config, clip_sample=False)
    )
    return painter


@pytest.mark.parametrize("steered", [False, True], ids=["plain", "steered"])
@pytest.mark.parametrize("build", [stable_diffusion, stable_diffusion_3], ids=lambda build: build.__name__)
def test_image_depends_on_its_seed_and_neither_on_its_batch_nor_on_what_was_drawn_before(
    build, steered, guide, tmp_path
):
    smoothed = GuidanceConfig(max_norm=4.0, samples=2, smoothing=0.2)
    config = replace(CONFIG, num_inference_steps=4, difficulty_guidance=smoothed)
    config = replace(config, target=STEERED.target) if steered else config
    pools = []
    for size in (1, 3):
        torch.manual_seed(size)
        painter = noisy(build, guide if steered else None)
        torch.manual_seed(size)
        pools.append(fill_pool(painter, tmp_path / str(size), config, batch_size=size))
    assert np.abs(pixels(pools[0]) - pixels(pools[1])).max() <= 1


def test_pool_without_a_guide_has_no_difficulties(tmp_path):
    pool = fill_pool(drawer(), tmp_path / "pool", CONFIG)
    assert {row["difficulty"] for row in pool.rows} == {None}
    assert pool.provenance["guide"] is None


def test_interrupted_pool_resumes_to_the_same_files(guide, tmp_path):
    class Killed(BaseException):
        pass

    def kill(stage, done, total):
        if done >= 1:
            raise Killed

    painter = drawer(guide=guide)
    whole = fill_pool(painter, tmp_path / "whole", CONFIG, batch_size=1)
    with pytest.raises(Killed):
        fill_pool(painter, tmp_path / "killed", CONFIG, batch_size=1, progress=kill)
    fill_pool(painter, tmp_path / "killed", CONFIG, batch_size=1, resume=True)
    assert content(whole.path) == content(tmp_path / "killed")


def test_pool_goes_on_with_the_same_prompts_and_the_same_call_alone(tmp_path):
    painter = drawer()
    fill_pool(painter, tmp_path / "pool", CONFIG)
    with pytest.raises(ValueError, match=r"prompts\.negative was 'blurred' and is now 'dark'"):
        fill_pool(painter, tmp_path / "pool", replace(CONFIG, prompts=replace(PROMPTS, negative="dark")), resume=True)
    painter = replace(painter, call=SMALL | {"clip_skip": 1})
    with pytest.raises(ValueError, match=r"drawn_by\.call\.clip_skip was None and is now 1"):
        fill_pool(painter, tmp_path / "pool", CONFIG, resume=True)


def test_classes_are_the_guides_where_nobody_names_others(guide):
    assert drawer(guide=guide, classes=None).class_names == NAMES


def test_classes_are_matched_with_the_guide_by_name(guide, tmp_path):
    with pytest.raises(ValueError, match="no class called 'Bags'"):
        fill_pool(drawer(guide=guide, classes=["Bags"]), tmp_path / "pool", CONFIG)
    pool = fill_pool(drawer(guide=guide, classes=["Bag", "boot"]), tmp_path / "pool", CONFIG)
    assert score_pool(pool, guide).difficulties == pytest.approx(pool.difficulties, abs=1e-6)


def test_target_of_each_class_is_found_by_its_name(guide):
    target = TargetDistribution.constant(0.2)
    jobs = plan(replace(STEERED, target={"boot": target, "T-shirt": 0.9}), drawer(guide=guide).class_names)
    assert {(job.class_name, job.target_difficulty) for job in jobs} == {("boot", 0.2), ("T-shirt", 0.9)}


# -- images of one colour


def blackened(pipeline, seen, black):
    """Let the safety checker of a pipeline blacken the images of its calls in turn: ``black(call, image)``."""

    def check(image, device, dtype):
        seen.append(len(image))
        keep = torch.tensor([not black(len(seen) - 1, i) for i in range(len(image))])
        return torch.where(keep.view(-1, 1, 1, 1), image, -1.0), None

    pipeline.run_safety_checker = check


def test_black_images_are_drawn_again_with_their_next_seeds_and_counted(guide, tmp_path, caplog):
    painter, calls = drawer(guide=guide), []
    blackened(painter.pipeline, calls, lambda call, image: (call, image) in ((0, 1), (0, 3), (1, 0)))
    pool = fill_pool(painter, tmp_path / "pool", CONFIG)
    assert calls == [4, 2, 1]
    assert sorted(row["redrawn"] for row in pool.rows) == [0, 0, 1, 2]
    assert pool.provenance["redrawn"] == 2
    first = {job.file_name: job.seed for job in plan(CONFIG, painter.class_names)}
    for i, row in enumerate(pool.rows):
        assert row["seed"] == seed_after(first[row["file_name"]], row["redrawn"])
        assert not is_of_one_colour(pool.open(i))
        assert f"{row['file_name']}" in caplog.text or not row["redrawn"]
    assert score_pool(pool, guide).difficulties == pytest.approx(pool.difficulties, abs=1e-6)
    before = content(pool.path)
    fill_pool(painter, tmp_path / "pool", CONFIG, resume=True)
    assert content(pool.path) == before


def test_image_that_stays_black_is_given_up_and_named(tmp_path, caplog):
    painter, calls = drawer(), []
    blackened(painter.pipeline, calls, lambda call, image: image == 0)
    pool = fill_pool(painter, tmp_path / "pool", CONFIG)
    assert len(calls) == 1 + Repair().most_redraws
    assert {row["file_name"]: row["fault"] for row in pool.rows if "fault" in row} == {"0_T-shirt/00000.png": "empty"}
    assert pool.provenance["repair"]["given_up"] == 1
    assert "1 of them were drawn again 10 times and are given up" in caplog.text


def test_pipeline_that_draws_only_black_is_told_by_its_first_images_and_leaves_nothing(tmp_path):
    painter, calls = drawer(), []
    blackened(painter.pipeline, calls, lambda call, image: True)
    with pytest.raises(ValueError, match=r"first 12 images, such as 0_T-shirt/00000\.png, came out of one colour"):
        fill_pool(painter, tmp_path / "pool", replace(CONFIG, images_per_class=20), batch_size=4)
    assert calls == [4, 4, 4]
    assert not (tmp_path / "pool").exists()


def test_other_faults_are_repaired_beside_images_of_one_colour(tmp_path):
    painter = drawer()
    blackened(painter.pipeline, [], lambda call, image: False)
    pool = fill_pool(painter, tmp_path / "pool", CONFIG, repair=Repair(faults=["duplicate"]))
    assert pool.provenance["faults"] == {"empty": 0, "duplicate": 0, "classifier": None}


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 7))
def test_images_are_held_back_until_one_has_colours_and_none_is_lost(colours, size):
    jobs = plan(PoolConfig(images_per_class=len(colours), prompts=PROMPTS), {0: "Bag"})
    images = [Image.linear_gradient("L") if coloured else Image.new("L", (4, 4)) for coloured in colours]
    drawn = [(job, image, None) for job, image in zip(jobs, images, strict=True)]
    pieces = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    black = colours.index(True) // size * size if any(colours) else len(colours)  # before the piece with colours
    if black >= FIRST:
        with pytest.raises(ValueError, match="came out of one colour"):
            list(with_colours(pieces))
    else:
        assert list(with_colours(pieces)) == pieces


def test_pool_of_a_pipeline_that_rounds_its_size_is_resumed_and_only_odd_images_are_drawn_again(tmp_path, caplog):
    painter = SteerablePipeline(made(flux), None, CLASSES, {"height": 18, "width": 18})
    config = replace(CONFIG, images_per_class=2, prompts=Prompts("a {class}"))
    pool = fill_pool(painter, tmp_path / "pool", config)
    assert pool.open(0).size == (16, 16)
    fill_pool(painter, pool.path, config, resume=True)
    assert "drawn again" not in caplog.text
    pool.open(0).resize((8, 8)).save(pool.path / pool.rows[0]["file_name"])
    again = fill_pool(painter, pool.path, config, resume=True)
    assert "1 images of" in caplog.text
    assert again.open(0).size == (16, 16)


# -- modes


def modes_of(shape):
    centres = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return Modes(centres, torch.tensor([0, 1]), torch.ones(2, dtype=torch.long), dict(enumerate(CLASSES)))


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (stable_diffusion, (16, 16)),
        (stable_diffusion_xl, (16, 16)),
        (stable_diffusion_3, (16, 16)),
        (flux, (16, 24)),  # packed, as are those of Qwen-Image
        (qwen_image, (32, 48)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_latents_are_drawn_to_their_modes_whatever_the_schedule(build, size):
    pipeline, (height, width) = made(build), size
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    modes = modes_of(encode(pipeline.vae, images).shape[1:])

    def distance(**options):
        generator = torch.Generator().manual_seed(0)
        with steer(pipeline, [], [], **options) as steered:
            found = pipeline(
                prompt=["a shirt", "a boot"],
                height=height,
                width=width,
                num_inference_steps=12,
                output_type="latent",
                generator=generator,
            ).images
            found = found if steered.unpack is None else steered.unpack(found)
        return (found.reshape(modes.centres.shape) - modes.centres).flatten(1).norm(dim=1)

    near, far = distance(modes=modes.centres, mode_guidance=ModeGuidance(scale=0.5)), distance()
    assert bool((near < 0.8 * far).all())


@pytest.mark.parametrize(
    "build", [stable_diffusion, stable_diffusion_3, sana, qwen_image], ids=lambda build: build.__name__
)
def test_encoded_images_are_what_the_decoder_of_a_pipeline_is_given(build):
    pipeline, images = made(build), torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), steer(pipeline, [], []) as steered:
        latents = encode(pipeline.vae, images)
        steered.decoder = pipeline.vae
        decoded = steered.decode(latents)
        whole = pipeline.vae(images[:, :, None] * 2 - 1 if build is qwen_image else images * 2 - 1).sample
    expected = whole[:, :, 0] if build is qwen_image else whole
    assert torch.allclose(decoded, expected / 2 + 0.5, atol=1e-4)


def test_images_of_a_pool_go_to_the_modes_of_their_classes(tmp_path):
    config = replace(CONFIG, num_inference_steps=4, modes=modes_of((4, 8, 8)))
    pool, plain = (fill_pool(drawer(), tmp_path / str(i), one) for i, one in enumerate([config, CONFIG]))
    assert [row["mode"] for row in pool.rows] == [row["label"] for row in pool.rows]
    assert not np.array_equal(pixels(pool), pixels(plain))


def test_latents_that_are_found_for_modes_are_those_that_the_pipeline_decodes():
    vae = made(stable_diffusion_xl).vae
    latents = torch.randn(2, 4, 8, 8)
    assert torch.allclose(scaled(unscaled(latents, vae.config), vae.config), latents, atol=1e-5)


@pytest.mark.parametrize("build", [stable_diffusion, flux], ids=lambda build: build.__name__)
def test_modes_of_other_latents_are_refused_and_nothing_is_left(build, tmp_path):
    config = replace(CONFIG, prompts=Prompts("a {class}"), modes=modes_of((4, 4, 4)))
    with pytest.raises(ValueError, match="modes have shape"):
        fill_pool(drawer(build), tmp_path / "pool", config)
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("other", [{}, {"scaling_factor": 0.13025}], ids=["weights", "scale"])
def test_modes_of_another_vae_are_refused_though_their_shape_is_right(other, tmp_path):
    pipeline, another = made(stable_diffusion), made(stable_diffusion)
    torch.manual_seed(1)
    another.vae = kl(**{"scaling_factor": 0.18215} | other)
    if other:
        another.vae.load_state_dict(pipeline.vae.state_dict())
    config = replace(CONFIG, modes=replace(modes_of((4, 8, 8)), space=space_of(another)))
    with pytest.raises(ValueError, match="latents of another VAE"):
        fill_pool(SteerablePipeline(pipeline, None, CLASSES, SMALL), tmp_path / "pool", config)
    assert not (tmp_path / "pool").exists()


def test_modes_are_known_by_their_vae_in_half_precision_and_with_another_decoder(tmp_path):
    pipeline = made(stable_diffusion)
    modes_of((4, 8, 8)).save(tmp_path / "old")
    replace(modes_of((4, 8, 8)), space=space_of(pipeline)).save(tmp_path / "new")
    pipeline.vae.decoder.conv_in.reset_parameters()
    pipeline.vae.bfloat16()
    require_modes_of(load_modes(tmp_path / "new", dict(enumerate(CLASSES))), pipeline)


def test_file_that_does_not_say_of_which_vae_its_modes_are_is_told(tmp_path, caplog):
    modes_of((4, 8, 8)).save(tmp_path / "old")
    load_modes(tmp_path / "old", dict(enumerate(CLASSES)))
    assert "does not say of which VAE" in caplog.text


def test_file_of_modes_serves_some_of_its_classes(tmp_path):
    modes = modes_of((4, 8, 8))
    modes.save(tmp_path / "modes")
    loaded = load_modes(tmp_path / "modes", {0: "boot", 1: "Bag"})
    assert (loaded.class_names, loaded.labels.tolist()) == ({0: "boot"}, [0])
    assert torch.equal(loaded.centres, modes.centres[1:])
    with pytest.raises(ValueError, match=r"no mode was found for label 1, only for 0 \(boot\)"):
        loaded.of_class(1)
    with pytest.raises(ValueError, match="the pipeline has no class called"):
        load_modes(tmp_path / "modes", {0: "Bag"})


# -- pipelines of one's own


def test_pipeline_that_doubles_its_latents_draws_batches_under_a_stochastic_scheduler(tmp_path):
    pipeline = DiTPipeline(tiny_transformer(1000), kl(), DDPMScheduler(clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    config = PoolConfig(images_per_class=1, num_inference_steps=3)
    pools = [
        fill_pool(SteerablePipeline(pipeline, None, NAMES), tmp_path / str(n), config, batch_size=n) for n in (1, 3)
    ]
    assert np.abs(pixels(pools[0]) - pixels(pools[1])).max() <= 1


def test_offloaded_pipeline_fills_the_pool_of_one_that_is_not(tmp_path):
    plain = fill_pool(drawer(), tmp_path / "pool", CONFIG)
    painter, (lost, *_) = drawer(), plain.rows
    for part in (painter.pipeline.unet, painter.pipeline.vae):
        cpu_offload(part, execution_device=torch.device("cpu"), offload_buffers=True)
    before = (plain.path / lost["file_name"]).read_bytes()
    (plain.path / lost["file_name"]).unlink()
    fill_pool(painter, plain.path, CONFIG, batch_size=50, resume=True)
    assert (plain.path / lost["file_name"]).read_bytes() == before


class DecoderPipeline(DiffusionPipeline):
    """One whose denoiser is called otherwise, and that has no VAE, as Stable Cascade."""

    def __init__(self, decoder, scheduler):
        super().__init__()
        self.register_modules(decoder=decoder, scheduler=scheduler)

    def __call__(self, class_labels, generator=None):
        images = [torch.rand(3, 8, 8, generator=one) for one in np.atleast_1d(generator)]
        return BaseOutput(images=torch.stack(images))


def test_pipeline_whose_denoiser_is_called_otherwise_fills_a_pool_and_is_not_compiled(tmp_path):
    pipeline = DecoderPipeline(tiny_transformer().half(), DDPMScheduler())
    pool = fill_pool(SteerablePipeline(pipeline, None, CLASSES), tmp_path / "pool", PoolConfig(images_per_class=1))
    assert pool.provenance["dtype"] == "float16"
    for option in ("compiled", "vae_slicing"):
        with pytest.raises(ValueError, match="DecoderPipeline has no vae"):
            speed_up(pipeline, **{option: True})


def test_target_for_a_pipeline_without_a_vae_is_told_to_be_left_out(guide, tmp_path):
    painter = SteerablePipeline(DecoderPipeline(tiny_transformer(), DDPMScheduler()), guide, CLASSES)
    with pytest.raises(ValueError, match=r"has no vae.*; leave target and modes out to draw without them"):
        fill_pool(painter, tmp_path / "pool", PoolConfig(images_per_class=1, target=0.5))


class OneGenerator(DecoderPipeline):
    def __call__(self, class_labels, generator=None):
        return BaseOutput(images=torch.rand(len(class_labels), 3, 8, 8, generator=generator))


class BareTuple(DecoderPipeline):
    def __call__(self, class_labels, generator=None):
        return (super().__call__(class_labels, generator).images,)


class NoGenerator(DecoderPipeline):
    def __call__(self, class_labels):
        return super().__call__(class_labels, torch.Generator())


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        (OneGenerator, TypeError, "if it takes one alone, give batch_size=1"),
        (BareTuple, ValueError, "BareTuple returned a tuple; return an object with .images"),
        (NoGenerator, ValueError, "the call of NoGenerator takes no generator"),
    ],
)
def test_pipeline_whose_call_is_of_another_form_is_told_what_to_change(kind, error, told, tmp_path):
    with pytest.raises(error, match=told):
        fill_pool(SteerablePipeline(kind(tiny_transformer(), DDPMScheduler()), None, CLASSES), tmp_path, PoolConfig())


def test_pipeline_that_takes_one_generator_fills_a_pool_in_batches_of_one(tmp_path):
    painter = SteerablePipeline(OneGenerator(tiny_transformer(), DDPMScheduler()), None, CLASSES)
    config = PoolConfig(images_per_class=2)
    assert len(fill_pool(painter, tmp_path / "pool", config, batch_size=1)) == 2 * len(CLASSES)


@pytest.mark.parametrize("id2label", [NAMES, None], ids=["named", "guide"])
def test_pipeline_of_ones_own_fills_a_pool_by_labels(id2label, guide, tmp_path):
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline = made(lambda: FlowTransformerPipeline(tiny_transformer(), kl(), scheduler, id2label))
    painter = SteerablePipeline(pipeline, guide)
    config = replace(STEERED, prompts=None, labels=[0, 1], guidance_scale=None)
    pool = fill_pool(painter, tmp_path / "pool", config)
    assert np.abs(pool.difficulties - 0.7).mean() < 0.1
    assert {row["class_name"] for row in pool.rows} == {NAMES[0], NAMES[1]}
    alone = fill_pool(painter, tmp_path / "alone", config, batch_size=1)
    assert np.abs(pixels(pool) - pixels(alone)).max() <= 1
    with pytest.raises(ValueError, match="takes no guidance_scale"):
        fill_pool(painter, tmp_path / "none", replace(config, guidance_scale=2.0))


# -- refusals


@pytest.mark.parametrize(
    ("build", "changes", "told"),
    [
        (stable_diffusion, {"prompts": None}, "draws from prompts"),
        (stable_diffusion, {"guidance_interval": (0.0, 0.5)}, "DifficultyGuidedPipeline alone"),
        (stable_diffusion, {"noise_candidates": 5}, "one by one"),
        (stable_diffusion, {"diversity": DiversityGuidance(scale=0.1)}, "one by one"),
        (stable_diffusion, {"target": 0.5}, "needs a guide"),
        (stable_diffusion, {"precision": "bfloat16"}, "dtype='bfloat16'"),
        (stable_diffusion, {"labels": [5]}, "no single class"),
        (flux, {}, "true_cfg_scale"),
    ],
)
def test_settings_that_a_pipeline_would_ignore_are_refused_before_anything_is_written(build, changes, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        fill_pool(drawer(build), tmp_path / "pool", replace(CONFIG, **changes))
    assert not list(tmp_path.iterdir())


def test_scheduler_that_draws_noise_by_a_generator_of_its_own_is_refused(tmp_path):
    painter = drawer()
    painter.pipeline.scheduler.noise_sampler = None  # as that of DPMSolverSDEScheduler before the first step
    with pytest.raises(ValueError, match="do not follow from their seeds"):
        fill_pool(painter, tmp_path / "pool", CONFIG)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"call": {"prompt": "a bag"}}, "cannot be handed on"),
        ({"call": {"hight": 16}}, "cannot be handed on.*its call takes height"),
        ({"call": {"guidance_scale": 3}}, "since a pool sets it itself; give guidance_scale of the pool"),
        ({"call": {"output_type": "latent"}}, "'output_type' cannot be handed on"),
        ({"call": {"num_images_per_prompt": 2}}, "'num_images_per_prompt' cannot be handed on"),
        ({"classes": None}, "have no names"),
    ],
)
def test_drawers_that_make_no_sense_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        SteerablePipeline(**{"pipeline": made(stable_diffusion), "classes": CLASSES} | options)


def test_prompts_are_refused_by_a_pipeline_of_labels(pipeline, tmp_path):
    with pytest.raises(ValueError, match="reads no prompts"):
        fill_pool(pipeline, tmp_path / "pool", replace(CONFIG, guidance_scale=1.0))


def test_plain_pipeline_is_told_how_to_be_given(tmp_path):
    with pytest.raises(ValueError, match="SteerablePipeline"):
        fill_pool(made(stable_diffusion), tmp_path / "pool", CONFIG)


def test_revision_is_that_of_the_downloaded_files(tmp_path):
    pipeline = made(stable_diffusion)
    assert revision_of(pipeline) is None
    pipeline.unet.register_to_config(_name_or_path=f"/cache/models--a--b/snapshots/{'0a' * 20}/unet")
    assert revision_of(pipeline) == "0a" * 20


# -- the command


@pytest.fixture(scope="module")
def saved(tmp_path_factory, guide):
    folder = tmp_path_factory.mktemp("saved")
    made(stable_diffusion).save_pretrained(folder / "pipeline")
    guide.save_pretrained(folder / "guide")
    return folder


def generate(pipeline, output, *options):
    small = (
        "--images-per-class",
        1,
        "--num-inference-steps",
        2,
        "--call",
        "height=16",
        "--call",
        "width=16",
        "--quiet",
    )
    words = ["generate", output, "--pipeline", pipeline, *small, *options]
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_command_fills_a_pool_from_prompts_and_its_record_gives_the_command(saved, tmp_path):
    told = ("--prompt", "a {class}", "--negative-prompt", "dark", "--classes", "Bag; boot")
    result = generate(saved / "pipeline", tmp_path / "pool", *told, "--classifier", saved / "guide", "--target", 0.5)
    assert result.exit_code == 0, result.output
    pool = read_pool(tmp_path / "pool")
    assert [row["prompt"] for row in pool.rows] == ["a Bag", "a boot"]
    assert pool.provenance["drawn_by"]["safety_checker"] is False
    (command,) = commands_of(pool.provenance)
    for part in ("--prompt 'a {class}'", "--negative-prompt dark", "--classes 'Bag;boot'", "--call height=16"):
        assert part in command


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--negative-prompt", "dark"), "give --prompt"),
        (("--prompt", "a bag"), "all classes alike"),
        (("--prompt", "no.json"), "no file of prompts"),
        (("--prompt", "a {class}", "--probe", "probe"), "--probe"),
        (("--prompt", "a {class}"), "have no names"),
        (("--prompt", "a {class}", "--classes", "Bag", "--call", "height"), "NAME=VALUE"),
        (
            ("--prompt", "a {class}", "--classes", "Bag", "--call", "num_inference_steps=3"),
            "give --num-inference-steps of the pool instead",
        ),
        (
            ("--prompt", "a {class}", "--classes", "Bag", "--call", "negative_prompt=dark"),
            "give a negative prompt beside the prompts",
        ),
    ],
)
def test_command_tells_in_one_line_what_is_wrong_with_prompts(options, told, saved, tmp_path):
    result = generate(saved / "pipeline", tmp_path / "pool", *options)
    assert result.exit_code == 2
    assert told in result.output
    assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "pool").exists()


def test_pipeline_that_draws_from_prompts_is_told_to_need_some(saved, tmp_path):
    options = ["generate", str(tmp_path / "pool"), "--pipeline", str(saved / "pipeline"), "--device", "cpu", "--quiet"]
    result = CliRunner().invoke(cli.app, options)
    assert result.exit_code == 2
    assert "is a StableDiffusionPipeline, which draws from prompts: give some" in result.output
    assert len(result.output.splitlines()) == 1


def test_guide_that_is_given_as_a_pipeline_is_refused(saved, tmp_path):
    result = generate(saved / "guide", tmp_path / "pool", "--prompt", "a {class}", "--classes", "Bag")
    assert result.exit_code == 2
    assert "cannot be loaded as a text-to-image pipeline" in result.output


def write_real(folder):
    """Six images of each class, some of each colour."""
    for label, name in enumerate(CLASSES):
        (folder / f"{label}_{name}").mkdir(parents=True)
        for i in range(6):
            values = np.random.default_rng([label, i]).integers(0, 255, (20, 24, 3), np.uint8)
            Image.fromarray(values).save(folder / f"{label}_{name}" / f"{i}.png")


def find_modes(*options):
    return CliRunner().invoke(cli.app, [str(word) for word in ("find-modes", *options, "--quiet")])


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    made(flux).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["saved", "packed"])
def test_modes_of_real_images_are_found_with_the_vae_alone_and_draw_a_pool(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    pipeline = folder / "pipeline" if kind == "saved" else folder
    write_real(tmp_path / "real")
    only = tmp_path / "only"
    only.mkdir()
    for name in (
        "model_index.json",
        "vae",
        *(["unet/config.json"] if kind == "saved" else ["transformer/config.json"]),
    ):
        place = only / name
        place.parent.mkdir(exist_ok=True)
        (shutil.copytree if (pipeline / name).is_dir() else shutil.copy)(pipeline / name, place)
    modes = tmp_path / "modes.safetensors"
    found = find_modes(tmp_path / "real", modes, "--pipeline", only, "--per-class", 2, "--size", 16)
    assert found.exit_code == 0, found.output
    assert Modes.load(modes).centres.shape == (4, 4, 8, 8)
    require_modes_of(Modes.load(modes), DiffusionPipeline.from_pretrained(pipeline))
    assert Modes.load(modes).space
    result = generate(
        pipeline, tmp_path / "pool", "--prompt", "a {class}", "--classes", "T-shirt;boot", "--modes", modes
    )
    assert result.exit_code == 0, result.output
    assert [row["mode"] // 2 for row in read_pool(tmp_path / "pool").rows] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("packed", (), "does not say how large"),
        ("packed", ("--size", 17), "give a size that 2 divides"),
        ("saved", ("--size", 16, "--by-difficulty", "hill"), "has no guide"),
    ],
)
def test_command_tells_in_one_line_why_no_modes_are_found(kind, options, told, request, tmp_path):
    folder = request.getfixturevalue(kind)
    write_real(tmp_path / "real")
    pipeline = folder / "pipeline" if kind == "saved" else folder
    result = find_modes(tmp_path / "real", tmp_path / "modes", "--pipeline", pipeline, "--per-class", 2, *options)
    assert result.exit_code == 2
    assert told in result.output
    assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "modes").exists()
