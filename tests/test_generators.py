"""From a folder of images to a pipeline: what a user sees of the training of a generator."""

import json
import logging
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline, DPMSolverMultistepScheduler
from hypothesis import assume, given
from hypothesis.strategies import integers, sampled_from
from PIL import Image
from pools_on_disk import content
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_classifier, tiny_pipeline, tiny_vae, write_images
from tiny_training import StoppedHereError, encode_until_stopped, train_generator_with_others
from typer.testing import CliRunner
from warm import Command, run_together

from dag_diffusion import DifficultyGuidedPipeline, read_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.data.pools import digest_of_images
from dag_diffusion.memory import SHARE, require_memory
from dag_diffusion.processes import StoppedError
from dag_diffusion.training.batches import Batch
from dag_diffusion.training.checkpoints import work_folder
from dag_diffusion.training.denoising import DenoisingLoss
from dag_diffusion.training.generators import GeneratorConfig, train_generator
from dag_diffusion.training.generators.latents import Latents, encode_images
from dag_diffusion.training.generators.networks import build_transformer, build_vae, label_embedders, set_own_dropping
from dag_diffusion.training.generators.room import Room, number_of_weights
from dag_diffusion.training.generators.samples import grid, sampler
from dag_diffusion.training.generators.sizes import is_suitable, require_suitable
from dag_diffusion.training.generators.training import RECORD, labelled_loss
from dag_diffusion.training.generators.vae import (
    SCALE,
    _measured_scale,
    as_input,
    at_once,
    reconstruction_error,
    train_vae,
)
from dag_diffusion.training.objectives import Objective

CONFIG = GeneratorConfig(
    steps=4, vae_steps=2, width=64, depth=1, batch_size=6, sample_grids=2, checkpoint_seconds=0, precision="float32"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, {"Bag": 4, "Ankle boot": 5, "T-shirt, top": 3})
    return read_pool(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    output = tmp_path_factory.mktemp("trained") / "generator"
    return output, train_generator(images, output, CONFIG)


def test_output_behind_a_link_is_written_there_and_the_link_stays(tmp_path, images, trained):
    (tmp_path / "scratch" / "generator").mkdir(parents=True)
    (tmp_path / "generator").symlink_to(tmp_path / "scratch" / "generator")
    train_generator(images, tmp_path / "generator", CONFIG)
    assert (tmp_path / "generator").is_symlink()
    assert weights(tmp_path / "scratch" / "generator") == weights(trained[0])


def weights(folder):
    return {name: data for name, data in content(folder).items() if name.endswith(".safetensors")}


def stop_at(stage: str, step: int):
    def tell(name: str, done: int, total: int) -> None:
        if (name, done) == (stage, step):
            raise StoppedHereError

    return tell


def test_pipeline_loads_draws_its_classes_and_knows_their_names(trained):
    pipeline = DifficultyGuidedPipeline.from_pretrained(trained[0])
    assert pipeline.class_names == {0: "Bag", 1: "Ankle boot", 2: "T-shirt, top"}
    assert pipeline.classifier is None
    assert pipeline.null_class == 3
    assert pipeline.default_guidance_scale == 2
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    found = pipeline(["Bag", "top"], num_inference_steps=2, output_type="np").images
    assert found.shape == (2, 16, 16, 1)
    again = trained[1]([0, 2], num_inference_steps=2, output_type="np", generator=torch.manual_seed(0)).images
    same = pipeline([0, 2], num_inference_steps=2, output_type="np", generator=torch.manual_seed(0)).images
    assert np.array_equal(again, same)


def test_plain_diffusers_loads_the_parts(trained):
    assert isinstance(DiTPipeline.from_pretrained(trained[0]).scheduler, DPMSolverMultistepScheduler)


def test_configuration_of_the_scheduler_is_json_for_everyone(trained):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((trained[0] / "scheduler" / "scheduler_config.json").read_text(), parse_constant=refuse)


def test_scale_of_the_latents_is_measured(trained, images):
    vae = trained[1].vae
    assert vae.config.scaling_factor != 0.18215
    pixels = torch.from_numpy(np.stack([np.asarray(images.open(i)) for i in range(len(images))]))[:, None] / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
    assert latents.std().item() == pytest.approx(1, rel=1e-4)


def test_scale_of_the_latents_is_that_of_all_classes_where_only_some_images_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("dag_diffusion.training.generators.vae.MEASURED", 6)
    pixels, cpu = torch.zeros(12, 16, 16, 1, dtype=torch.uint8), torch.device("cpu")
    pixels[6:] = 255  # a class of black images, then one of white ones
    vae = train_vae(pixels, tmp_path, CONFIG.vae_loop, flip=False, device=cpu, identity={})
    latents = vae.encode(as_input(pixels, cpu)).latent_dist.mean
    assert vae.config.scaling_factor == pytest.approx(1 / latents.std().item(), rel=0.03)


def test_losses_and_samples_are_kept_and_what_only_a_resumed_run_needs_is_not(trained):
    work = work_folder(trained[0])
    rows = [json.loads(line) for line in (work / "denoiser" / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["seconds_left"] >= 0 for row in rows)
    sheets = sorted((work / "samples").glob("*.png"))
    assert [path.stem for path in sheets] == ["0000002", "0000004"]
    assert Image.open(sheets[0]).size == (8 * 18 - 2, 3 * 18 - 2)
    assert not list(work.rglob("*.safetensors"))


@pytest.mark.parametrize(("stage", "step"), [("autoencoder", 1), ("latents", 12), ("denoiser", 2), ("denoiser", 4)])
def test_call_that_was_stopped_goes_on_to_the_same_weights(tmp_path, images, trained, stage, step):
    output = tmp_path / "generator"
    with pytest.raises(StoppedHereError):
        train_generator(images, output, CONFIG, progress=stop_at(stage, step))
    assert not output.exists()
    train_generator(images, output, CONFIG)
    assert weights(output) == weights(trained[0])


@pytest.mark.parametrize(
    "kept", [True, False], ids=["beside the autoencoder", "by an earlier version in latents alone"]
)
@pytest.mark.parametrize(("stage", "step"), [("latents", 12), ("denoiser", 2)])
def test_scale_is_not_measured_anew_where_its_last_digit_may_be_another(
    tmp_path, images, trained, monkeypatch, stage, step, kept
):
    output = tmp_path / "generator"
    with pytest.raises(StoppedHereError):
        train_generator(images, output, CONFIG, progress=stop_at(stage, step))
    if not kept:
        (work_folder(output) / "vae" / SCALE).unlink()
        (latents,) = (work_folder(output) / "latents").glob("*.safetensors")
        latents.rename(latents.with_name("latents-00000.safetensors"))
    monkeypatch.setattr("dag_diffusion.training.generators.vae._measured_scale", lambda vae, pixels: 0.5)
    train_generator(images, output, CONFIG)
    assert weights(output) == weights(trained[0])
    assert (output / "vae" / "config.json").read_bytes() == (trained[0] / "vae" / "config.json").read_bytes()
    assert not (work_folder(output) / "vae" / SCALE).exists()


@pytest.mark.parametrize(("function", "folder"), [("os.replace", "made"), ("shutil.rmtree", "latents")])
def test_stopped_while_it_is_written_it_leaves_nothing_behind_in_the_end(
    tmp_path, images, trained, monkeypatch, function, folder
):
    module, name = function.split(".")
    usual = getattr(sys.modules[module], name)

    def stop(path, *others, **options):
        if Path(path).name == folder:
            raise StoppedHereError
        return usual(path, *others, **options)

    with monkeypatch.context() as patch:
        patch.setattr(function, stop)
        with pytest.raises(StoppedHereError):
            train_generator(images, tmp_path / "generator", CONFIG)
    train_generator(images, tmp_path / "generator", CONFIG)
    assert weights(tmp_path / "generator") == weights(trained[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generator", "generator.training"]
    assert content(work_folder(tmp_path / "generator")).keys() == content(work_folder(trained[0])).keys()


def test_finished_generator_is_not_trained_again(trained, images):
    train_generator(images, trained[0], CONFIG, progress=stop_at("denoiser", 1))


def test_finished_generator_leaves_the_progress_of_another_training_alone(tmp_path, images, trained):
    output, other = shutil.copytree(trained[0], tmp_path / "generator"), replace(CONFIG, steps=5)
    with pytest.raises(StoppedHereError):
        train_generator(images, output, other, overwrite=True, progress=stop_at("denoiser", 2))
    begun = content(work_folder(output))
    assert len(weights(work_folder(output))) == 3  # of autoencoder and denoiser, and latents
    train_generator(images, output, CONFIG)
    assert content(work_folder(output)) == begun


@pytest.mark.parametrize("change", [{"steps": 5}, {"learning_rate": 0.1}, {"flip": True}, {"size": 32}])
def test_other_settings_are_refused_with_what_differs(trained, images, change):
    name = next(iter(change))
    with pytest.raises(ValueError, match=rf"another training: settings\.{name} was .*overwrite=True"):
        train_generator(images, trained[0], replace(CONFIG, **change))


def test_other_images_are_refused(tmp_path, images):
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "generator", CONFIG, progress=stop_at("denoiser", 1))
    fewer = images.select(range(1, len(images)))
    with pytest.raises(ValueError, match=r"other images or settings: .*images was 12 and is now 11"):
        train_generator(fewer, tmp_path / "generator", CONFIG)
    train_generator(fewer, tmp_path / "generator", CONFIG, overwrite=True)
    train_generator(images, tmp_path / "generator", CONFIG, overwrite=True)
    assert json.loads((tmp_path / "generator" / RECORD).read_text())["images"] == 12


def test_folder_of_something_else_is_left_alone(tmp_path, images):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no trained generator"):
        train_generator(images, tmp_path, CONFIG, overwrite=True)


def test_folder_of_something_else_where_the_work_goes_is_left_alone(tmp_path, images):
    (vae := work_folder(tmp_path / "g") / "vae").mkdir(parents=True)
    (vae / "thesis.tex").write_text("...")
    with pytest.raises(FileExistsError, match=r"g\.training, where .* holds something else; move it, or"):
        train_generator(images, tmp_path / "g", CONFIG, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["g.training", "vae", "thesis.tex"]


def test_autoencoder_may_be_given_by_name(tmp_path, images):
    tiny_vae().save_pretrained(tmp_path / "vae")
    pipeline = train_generator(images, tmp_path / "generator", replace(CONFIG, vae=str(tmp_path / "vae")))
    assert all(
        torch.equal(one, two) for one, two in zip(pipeline.vae.parameters(), tiny_vae().parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="cannot be loaded as an AutoencoderKL"):
        train_generator(images, tmp_path / "other", replace(CONFIG, vae=str(tmp_path / "nothing")))


def test_noise_may_be_predicted_instead(tmp_path, images):
    pipeline = train_generator(images, tmp_path / "g", CONFIG, objective=Objective(prediction="epsilon"))
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert np.isfinite(pipeline([0], num_inference_steps=2, output_type="np").images).all()


def test_gradient_checkpointing_comes_to_the_same_weights(tmp_path, images, trained):
    train_generator(images, tmp_path / "g", replace(CONFIG, gradient_checkpointing=True))
    assert weights(tmp_path / "g") == weights(trained[0])


def test_one_class_is_refused(tmp_path):
    write_images(tmp_path / "images", {"Bag": 1})
    with pytest.raises(ValueError, match=r"all images in .* are of the class 'Bag'; difficulty is between classes"):
        train_generator(read_pool(tmp_path / "images"), tmp_path / "g", CONFIG)


def test_class_of_one_image_is_told_and_learnt(tmp_path, caplog):
    write_images(tmp_path / "images", {"Bag": 1, "Boot": 30})
    with caplog.at_level(logging.WARNING):
        train_generator(read_pool(tmp_path / "images"), tmp_path / "g", replace(CONFIG, steps=1, vae_steps=1))
    assert "fewer than 20 images are mostly learnt by heart: Bag (1)" in caplog.text


def test_labels_that_do_not_begin_at_0_are_numbered_anew_and_told(tmp_path, caplog):
    write_images(tmp_path / "images", {"7": 20, "3": 20}, metadata=False)
    pool = read_pool(tmp_path / "images")
    assert set(pool.labels.tolist()) == {3, 7}
    pipeline = train_generator(pool, tmp_path / "g", replace(CONFIG, steps=1, vae_steps=1))
    assert pipeline.class_names == {0: "3", 1: "7"}
    assert "labels 3, 7 become 0 to 1 in the generator" in caplog.text


def test_classes_of_one_name_are_refused(tmp_path):
    write_images(tmp_path / "images", {"Bag": 2, "bag ": 2})
    with pytest.raises(ValueError, match=r"'Bag' and 'bag ' in .* have one name"):
        train_generator(read_pool(tmp_path / "images"), tmp_path / "g", CONFIG)


def test_images_that_do_not_fit_into_memory_are_refused_beforehand():
    with pytest.raises(ValueError, match=r"images of 64 pixels take 11444\.1 GiB of the .* that may be used here"):
        require_memory(10**9, 64, 64**2 * 3)


def test_memory_is_counted_once_for_each_process_on_the_machine(monkeypatch):
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: 10_000)
    require_memory(5, 10, 1_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"5 images of 10 pixels take .* in 2 processes .*, or start fewer processes"):
        require_memory(5, 10, 1_000)


def test_images_whose_autoencoder_is_given_have_to_fit_as_latents_alone(tmp_path, images, monkeypatch):
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: 4000)  # bytes; the images take 3072
    monkeypatch.setattr("dag_diffusion.training.generators.training.number_of_weights", lambda network: 0)
    tiny_vae(latent_channels=1).save_pretrained(tmp_path / "vae")
    config = replace(CONFIG, vae=str(tmp_path / "vae"))  # whose latents take 128 each
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "g", config, progress=stop_at("latents", 12))
    with pytest.raises(ValueError, match=r"12 images of 16 pixels take .*choose a smaller size, or fewer images"):
        train_generator(images, tmp_path / "mirrored", replace(config, flip=True))


def test_weights_in_training_have_to_fit_into_memory_beside_the_images(tmp_path, images, monkeypatch):
    networks = [build_transformer(4, 4, 3, width=64, depth=1, seed=0), build_vae(16, 1, seed=0)]
    trained = 20 * sum(map(number_of_weights, networks))  # five numbers of four bytes
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: (trained + 4000) / SHARE)  # the images take 3072
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "g", CONFIG, progress=stop_at("latents", 12))
    with pytest.raises(ValueError, match=r"16 pixels and the weights in training take .*train on a GPU, or fewer"):
        train_generator(images, tmp_path / "deep", replace(CONFIG, depth=2))
    assert not (tmp_path / "deep.training").exists()
    train_generator(images, tmp_path / "g", CONFIG)
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: 0)
    assert train_generator(images, tmp_path / "g", CONFIG).class_names  # which is there already


@pytest.mark.parametrize(("on_cpu", "trained"), [(True, 0), (False, 675_000_000)], ids=["frozen", "on a GPU"])
def test_weights_elsewhere_or_at_rest_take_less_memory(monkeypatch, on_cpu, trained):
    sizes = {"images": 100, "size": 256, "image_bytes": 8192, "latent_bytes": 8192, "weights": 675_000_000}
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: 8 << 30)
    Room(**sizes, trained=trained).require_memory(on_cpu=on_cpu)
    with pytest.raises(ValueError, match=r"weights in training take 12\.6 GiB of the 8\.0"):
        Room(**sizes, trained=675_000_000).require_memory(on_cpu=True)


def test_too_little_disk_is_told_before_anything_is_trained(tmp_path, images, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=100_000))
    with pytest.raises(ValueError, match=r"has 0\.0 GB free, but latents and checkpoints need about 0\.0 GB"):
        train_generator(images, tmp_path / "g", CONFIG)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_an_earlier_call_has_written_needs_no_more_disk(tmp_path, images, trained, monkeypatch):
    output = tmp_path / "generator"
    with pytest.raises(StoppedHereError):
        train_generator(images, output, CONFIG, progress=stop_at("denoiser", 4))
    # of 36 bytes for each weight, 16 lie in checkpoints
    free = 24 * sum(map(number_of_weights, (trained[1].transformer, trained[1].vae)))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    with pytest.raises(ValueError, match="latents and checkpoints need about"):
        train_generator(images, tmp_path / "another", CONFIG)
    train_generator(images, output, CONFIG)
    assert weights(output) == weights(trained[0])


@pytest.mark.parametrize(
    ("size", "factor", "near"),
    [(8, None, "16"), (20, None, "16 or 24"), (36, None, "32 or 40"), (136, None, "128 or 144"), (18, 4, "16 or 20"),
     (2, 4, "4"), (36, 4, "32 or 40")],
)  # fmt: skip
def test_sizes_without_latents_are_refused_with_the_nearest_that_have_some(size, factor, near):
    with pytest.raises(ValueError, match=f"images of {size} pixels .*, such as {near}$"):
        require_suitable(size, factor)


@given(size=integers(1, 300), factor=sampled_from([None, 2, 4, 8]))
def test_sizes_that_are_advised_are_suitable(size, factor):
    assume(not is_suitable(size, factor))
    with pytest.raises(ValueError, match="such as ") as refused:
        require_suitable(size, factor)
    advised = str(refused.value).rpartition("such as ")[2].split(" or ")
    assert all(is_suitable(int(near), factor) for near in advised)


@pytest.mark.parametrize("side", [12, 60])
def test_images_of_a_size_without_latents_are_brought_to_the_usual_one(tmp_path, side):
    write_images(tmp_path / "images", {"Bag": 2, "Boot": 2}, size=side)
    pipeline = train_generator(read_pool(tmp_path / "images"), tmp_path / "g", replace(CONFIG, steps=1, vae_steps=1))
    assert pipeline.image_size == (32, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 20}, "images of 20 pixels"),
        ({"size": 17, "vae": "vae"}, "images of 17 pixels"),
        ({"channels": 3, "vae": "vae"}, "channels=3, but the VAE encodes images of 1"),
        ({"batch_size": 2, "accumulation": 3}, "a batch of 2 images cannot be divided"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, images, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    tiny_vae().save_pretrained("vae")
    with pytest.raises(ValueError, match=words):
        train_generator(images, tmp_path / "g", replace(CONFIG, **changes))
    assert [path.name for path in tmp_path.iterdir()] == ["vae"]


def test_more_processes_than_an_autoencoder_has_images_of_a_batch_are_refused(tmp_path, images, monkeypatch):
    process = SimpleNamespace(num_processes=17, process_index=0)
    monkeypatch.setattr("dag_diffusion.training.generators.training.this_process", lambda: process)
    with pytest.raises(ValueError, match="batches of 16 images, too few for 17 processes; train it with fewer, or"):
        train_generator(images, tmp_path / "g", replace(CONFIG, batch_size=34))
    assert not list(tmp_path.iterdir())


def test_images_are_not_mixed_with_what_is_made_of_them(images):
    with pytest.raises(FileExistsError, match="lies in it; choose another place"):
        train_generator(images, images.path / "generator", CONFIG)


def test_classifier_is_no_generator_that_may_be_replaced(tmp_path, images):
    tiny_classifier({0: "Bag", 1: "Boot"}).save_pretrained(tmp_path / "guide")
    (tmp_path / "guide" / "training.json").write_text("{}")
    with pytest.raises(FileExistsError, match="no trained generator"):
        train_generator(images, tmp_path / "guide", CONFIG, overwrite=True)


@pytest.mark.parametrize(
    "wrong",
    [{"channels": 2}, {"width": 100}, {"depth": 0}, {"label_dropout": 1.0}, {"guidance_scale": 0.5},
     {"guidance_scale": 0.0}, {"steps": 0}, {"vae_steps": 0}],
)  # fmt: skip
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).removeprefix("vae_")):
        GeneratorConfig(**wrong)


def test_generator_without_a_null_class_draws_without_classifier_free_guidance(tmp_path, images):
    config = replace(CONFIG, label_dropout=0.0, steps=1, vae_steps=1)
    assert train_generator(images, tmp_path / "generator", config).default_guidance_scale == 1
    with pytest.raises(ValueError, match=r"guidance_scale=2.0 needs a null class, which label_dropout=0"):
        train_generator(images, tmp_path / "other", replace(config, guidance_scale=2.0))


@pytest.mark.parametrize(("steps", "expected"), [(None, 4000), (100, 400), (6000, 6000)])
def test_autoencoder_is_trained_long_enough_for_colours_beside_any_denoiser(steps, expected):
    loop = GeneratorConfig(steps=steps).vae_loop
    assert (loop.steps, loop.batch_size) == (expected, 16)


def test_dropped_samples_are_unconditional_in_every_block_and_others_in_none():
    transformer = build_transformer(8, 4, 3, width=64, depth=3, seed=0)
    set_own_dropping(transformer, 0.0)
    seen = [[] for _ in label_embedders(transformer)]
    for embedder, found in zip(label_embedders(transformer), seen, strict=True):
        embedder.embedding_table.register_forward_hook(lambda _, labels, out, found=found: found.append(labels[0]))
    latents = Latents([torch.randn(40, 1, 4, 8, 8)])
    labels = np.arange(40) % 3
    config = replace(CONFIG, label_dropout=0.3)
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    loss = labelled_loss(DenoisingLoss(Objective(), scheduler), latents, labels, config)
    loss(transformer.train(), Batch(torch.arange(40), slice(0, 40), 0, 0, torch.device("cpu")))
    first = seen[0][0]
    for found in seen:
        assert all(torch.equal(labels, first) for labels in found)
    dropped = first == 3
    assert 4 <= dropped.sum() <= 20
    assert torch.equal(first[~dropped], torch.from_numpy(labels)[~dropped])


def test_null_row_is_trained(trained):
    first, last = build_transformer(4, 4, 3, width=64, depth=1, seed=0), trained[1].transformer
    before, after = (label_embedders(model)[0].embedding_table.weight for model in (first, last))
    assert after.shape == (4, 64)
    assert not torch.equal(before[3], after[3])


def test_latents_are_those_of_the_images_and_their_mirrors(tmp_path, images):
    vae = tiny_vae()
    found = encode_images(vae, images, tmp_path, size=16, flip=True, images=digest_of_images(images))
    image = torch.from_numpy(np.asarray(images.open(5)).copy())[None, None] / 127.5 - 1
    both = torch.cat([image, image.flip(3)])
    expected = vae.encode(both).latent_dist.mean * vae.config.scaling_factor
    rows = found.rows(torch.tensor([5, 5]), torch.tensor([False, True]))
    torch.testing.assert_close(rows, expected, atol=2e-3, rtol=2e-3)
    with pytest.raises(ValueError, match="latents of other images or another VAE: size was 16 and is now 32"):
        encode_images(vae, images, tmp_path, size=32, flip=True, images=digest_of_images(images))


def shards_of(monkeypatch, size, earlier=4096):
    monkeypatch.setattr("dag_diffusion.training.generators.latents.SHARD", size)
    monkeypatch.setattr("dag_diffusion.training.generators.latents.EARLIER_SHARD", earlier)


def all_latents(images, folder, seen=None, progress=None):
    """Those of all images; ``seen`` is told how many images the autoencoder is given at a time."""
    vae = tiny_vae()
    vae.encoder.register_forward_pre_hook(lambda _, given: None if seen is None else seen.append(len(given[0])))
    found = encode_images(vae, images, folder, size=16, flip=False, images="", progress=progress)
    return found.rows(torch.arange(len(found)))


def test_latents_that_were_encoded_before_a_stop_signal_are_kept(tmp_path, images, monkeypatch):
    shards_of(monkeypatch, 5)
    seen = list[int]()

    def ask_to_stop(stage, done, total):
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="with 7 of 12 latents to come; the same call goes on"):
        all_latents(images, tmp_path / "stopped", progress=ask_to_stop)
    stopped = all_latents(images, tmp_path / "stopped", seen)
    assert seen == [5, 2]
    torch.testing.assert_close(stopped, all_latents(images, tmp_path / "whole"), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_one_process_that_is_told_to_stop_stops_the_encoding_of_all(tmp_path):
    write_images(tmp_path / "images", {"Bag": 60, "Boot": 60})
    run_together(encode_until_stopped, tmp_path)
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in range(2))
    assert first == second
    left = 120 - 2 * len(list((tmp_path / "run").glob("latents-*.safetensors")))
    assert first == f"stopped as asked with {left} of 120 latents to come; the same call goes on there"
    assert left > 0


def test_latents_of_an_earlier_version_are_not_encoded_again(tmp_path, images, monkeypatch):
    shards_of(monkeypatch, 8)
    whole, seen = all_latents(images, tmp_path), list[int]()
    (tmp_path / "latents-0000000.safetensors").rename(tmp_path / "latents-00000.safetensors")
    (tmp_path / "latents-0000008.safetensors").unlink()  # of the other, which a kill has left none of
    shards_of(monkeypatch, 2, earlier=8)
    torch.testing.assert_close(all_latents(images, tmp_path, seen), whole, rtol=0, atol=1e-3)
    assert seen == [2, 2]


def test_no_more_large_images_than_fit_into_memory_are_given_to_an_autoencoder(tmp_path, images, monkeypatch):
    monkeypatch.setattr("dag_diffusion.training.generators.vae.PIXELS", 5 * 16**2)  # as if 16 pixels were many
    pipeline, seen = tiny_pipeline(classifier=None, default_num_inference_steps=2), list[int]()
    for network in (pipeline.vae.encoder, pipeline.vae.decoder):
        network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    encode_images(pipeline.vae, images, tmp_path, size=16, flip=True, images="")
    reconstruction_error(pipeline.vae, torch.zeros(12, 16, 16, 1, dtype=torch.uint8), torch.device("cpu"))
    _measured_scale(pipeline.vae, torch.arange(12, dtype=torch.uint8)[:, None, None, None].repeat(1, 16, 16, 1))
    sampler(pipeline, tmp_path, 0)(1, pipeline.transformer)
    assert set(seen) == {5, 2, 4}
    assert Image.open(tmp_path / "0000001.png").size == (8 * 18 - 2, 3 * 18 - 2)


@pytest.mark.parametrize(("side", "expected"), [(28, 128), (128, 128), (256, 32), (512, 8), (4096, 1)])
def test_images_of_an_autoencoder_are_fewer_the_larger_they_are(side, expected):
    assert at_once(side) == expected


def test_grid_has_a_row_a_class():
    sheet = np.asarray(grid(np.zeros((6, 4, 5, 3)), 3))
    assert sheet.shape == (2 * 6 - 2, 3 * 7 - 2, 3)
    assert (sheet[4:6] == 255).all()
    assert (sheet[:4, :5] == 0).all()


def test_command_trains_tells_and_goes_on(tmp_path):
    write_images(tmp_path / "images", {"Bag": 3, "Boot": 3})
    words = (
        f"train {tmp_path / 'images'} --output {tmp_path / 'g'} --steps 2 --vae-steps 1 --width 64 --depth 1 --quiet"
    )
    words += " --batch-size 4 --sample-grids 1"
    run = CliRunner().invoke(app, words.split())
    assert run.exit_code == 0, run.output
    assert "generator of 2 classes" in run.output
    assert f"losses and samples in {work_folder(tmp_path / 'g')}" in run.output
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    other = CliRunner().invoke(app, words.replace("--steps 2", "--steps 3").split())
    assert other.exit_code == 2
    assert other.output.splitlines()[-1].startswith("error: ")
    assert "steps was 2 and is now 3; give --overwrite to replace it" in other.output


def test_refused_command_leaves_nothing_beside_the_output(tmp_path):
    write_images(tmp_path / "images", {"Bag": 3})
    words = ["train", str(tmp_path / "images"), "--output", str(tmp_path / "g"), "--quiet"]
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, refused.output.count("are of the class 'Bag'")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.slow
def test_only_the_first_of_several_processes_reads_the_images_for_their_digest(tmp_path):
    write_images(tmp_path / "images", {"Bag": 3, "Boot": 3})
    run_together(train_generator_with_others, tmp_path)
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()


@pytest.mark.slow
def test_two_processes_train_the_generator_of_one(tmp_path):
    write_images(tmp_path / "images", {"Bag": 3, "Boot": 3})
    words = ["--steps", "2", "--vae-steps", "2", "--width", "64", "--depth", "1", "--batch-size", "4", "--quiet"]
    words += ["--precision", "float32", "--sample-grids", "1"]
    for name, more in (("one", ["--device", "cpu"]), ("two", ["--num-processes", "2", "--log-with", "tensorboard"])):
        run = Command("train", tmp_path / "images", "--output", tmp_path / name, *words, *more)
        assert run.communicate()[1].count("Traceback") == 0
        assert run.returncode == 0
    for part in ("vae", "transformer"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        one, two = load_file(tmp_path / "one" / name), load_file(tmp_path / "two" / name)
        for key, value in one.items():  # but for single weights whose gradients are so small that rounding turns them
            assert (two[key] - value).abs().flatten().quantile(0.999) < 1e-4, key
    curves = EventAccumulator(str(tmp_path / "two.training" / "dag-diffusion")).Reload()
    autoencoder, denoiser = (
        [point.step for point in curves.Scalars(f"{part}/loss")] for part in ("autoencoder", "denoiser")
    )
    assert max(autoencoder) == 2
    assert min(denoiser) > 2  # some trackers keep no step that is not behind the last
