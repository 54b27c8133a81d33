"""Modes and probes that were killed half-way go on where they were, and come to what they come to undisturbed."""

import os
import signal

import pytest
import torch
from test_probes import SMALL
from tiny import tiny_pipeline, tiny_vae, write_images

from dag_diffusion.data.pools import digest_of_images, read_pool
from dag_diffusion.generation.preparing import mode_search
from dag_diffusion.generation.preparing.kept_parts import kept_parts
from dag_diffusion.generation.preparing.mode_search import encode_pool, find_pool_modes
from dag_diffusion.generation.preparing.outputs import modes_at
from dag_diffusion.generation.preparing.trajectories import collect
from dag_diffusion.processes import StoppedError


@pytest.fixture
def pool(tmp_path):
    write_images(tmp_path / "real", {"Bag": 4, "Hat": 3})
    return read_pool(tmp_path / "real")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "modes.safetensors"


def encoded(pool, output, progress=None, vae=None, *, overwrite=False):
    with kept_parts(output, overwrite=overwrite) as kept:
        return encode_pool(vae or tiny_vae(), pool, size=16, batch_size=2, kept=kept, progress=progress)


def killed_after(items):
    def told(stage, done, total):
        if done >= items:
            raise KeyboardInterrupt

    return told


@pytest.fixture
def half(pool, output):
    """An encoding that was interrupted after four of seven images."""
    with pytest.raises(KeyboardInterrupt):
        encoded(pool, output, killed_after(4))


def work_of(output):
    return output.with_name(f".{output.name}.work")


def parts(output):
    return sorted(one.name for one in work_of(output).glob("*"))


@pytest.mark.usefixtures("half")
def test_images_that_were_encoded_before_a_kill_are_not_encoded_again(pool, output):
    assert parts(output) == ["part-0000000.safetensors", "part-0000002.safetensors", "record.json"]
    told = []
    latents = encoded(pool, output, lambda *news: told.append(news))
    assert told == [("images", count, 7) for count in (0, 4, 6, 7)]
    assert torch.equal(latents, encode_pool(tiny_vae(), pool, size=16, batch_size=2))


@pytest.mark.usefixtures("half")
def test_another_batch_size_goes_on_too_and_no_latent_gets_another_place(pool, output):
    (work_of(output) / "part-0000000.safetensors").unlink()  # as where another process was killed before this one
    with kept_parts(output) as kept:
        latents = encode_pool(tiny_vae(), pool, size=16, batch_size=3, kept=kept)
    torch.testing.assert_close(latents, encode_pool(tiny_vae(), pool, size=16))


@pytest.mark.usefixtures("half")
def test_other_images_do_not_go_on_with_what_is_kept(pool, output):
    other = pool.select([0, 1, 2, 3, 4, 6])
    with pytest.raises(ValueError, match=r"beginning of other work: images was .* overwrite=True"):
        encoded(other, output)
    assert len(parts(output)) == 3
    told = []
    encoded(other, output, lambda *news: told.append(news), overwrite=True)
    assert told[1] == ("images", 2, 6)


@pytest.mark.usefixtures("half")
def test_another_vae_does_not_go_on_with_what_is_kept(pool, output):
    vae = tiny_vae()
    vae.register_to_config(scaling_factor=0.5)
    with pytest.raises(ValueError, match=r"scaling_factor was .* and is now 0\.5"):
        encoded(pool, output, vae=vae)


@pytest.mark.usefixtures("half")
def test_damaged_part_is_done_again(pool, output, caplog):
    part = work_of(output) / "part-0000002.safetensors"
    part.write_bytes(part.read_bytes()[:-8])
    assert torch.equal(encoded(pool, output), encode_pool(tiny_vae(), pool, size=16, batch_size=2))
    assert "part-0000002.safetensors is damaged" in caplog.text


@pytest.mark.usefixtures("half")
def test_parts_of_nobody_knows_what_are_refused_and_may_go(pool, output):
    (work_of(output) / "record.json").write_text("")
    with pytest.raises(ValueError, match="what it was of cannot be read"):
        encoded(pool, output)
    assert len(encoded(pool, output, overwrite=True)) == 7


def test_one_folder_serves_one_work_after_the_other(pool, output):
    with kept_parts(output) as kept:
        first, second = (encode_pool(tiny_vae(), pool, size=16, batch_size=2, kept=kept) for _ in range(2))
    assert torch.equal(first, second)


def test_batch_is_finished_and_kept_when_the_system_asks_to_stop(pool, output):
    def asked(stage, done, total):
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="the same command goes on"):
        encoded(pool, output, asked)
    assert "part-0000000.safetensors" in parts(output)
    assert len(encoded(pool, output)) == 7


def test_folder_goes_when_the_result_is_saved_and_when_nothing_came_of_it(pool, output):
    with kept_parts(output) as kept:
        encode_pool(tiny_vae(), pool, size=16, kept=kept)
        kept.remove()
    assert not work_of(output).exists()
    with pytest.raises(KeyboardInterrupt):
        encoded(pool, output, killed_after(0))
    assert not work_of(output).exists()


@pytest.mark.usefixtures("half")
def test_parts_that_a_kill_left_beside_finished_modes_go_when_they_are_found(pool, output):
    pipeline = tiny_pipeline()
    find_pool_modes(pipeline, pool, 2).save(output)
    assert len(modes_at(output, pipeline, pool, 2).labels) == 4
    assert not work_of(output).exists()


def test_modes_that_replace_others_read_the_files_for_their_digest_once(pool, output, monkeypatch):
    pipeline, read = tiny_pipeline(), []
    find_pool_modes(pipeline, pool, 2).save(output)
    monkeypatch.setattr(mode_search, "digest_of_images", lambda pool: read.append(pool) or digest_of_images(pool))
    modes = modes_at(output, pipeline, pool, 1, overwrite=True)
    assert read == [pool]
    assert (len(modes.labels), modes.images) == (2, digest_of_images(pool))


def test_folder_of_somebody_else_is_left_alone(pool, output):
    notes = work_of(output) / "notes.txt"
    notes.parent.mkdir()
    for name in ("record.json", "notes.txt"):
        (notes.parent / name).write_text("mine")
        with pytest.raises(FileExistsError, match=rf"holds something else \({name}\)"):
            encoded(pool, output)
    assert [(notes.parent / name).read_text() for name in ("record.json", "notes.txt")] == ["mine", "mine"]


def test_second_run_at_once_is_refused(pool, output):
    with kept_parts(output), pytest.raises(FileExistsError, match="another run works on"):
        encoded(pool, output)


def runs(output, progress=None):
    pipeline = tiny_pipeline()
    with kept_parts(output) as kept:
        return collect(pipeline, [pipeline.classifier], SMALL, batch_size=10, kept=kept, progress=progress)


def test_runs_that_were_drawn_before_a_kill_are_not_drawn_again(tmp_path):
    output, told = tmp_path / "probe", []
    with pytest.raises(KeyboardInterrupt):
        runs(output, killed_after(20))
    again = runs(output, lambda *news: told.append(news))
    assert told == [("trajectories", count, 40) for count in (0, 20, 30, 40)]
    pipeline = tiny_pipeline()
    for name, values in vars(collect(pipeline, [pipeline.classifier], SMALL, batch_size=10)).items():
        torch.testing.assert_close(getattr(again, name), values)
