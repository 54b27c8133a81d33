"""Curves of a run: written by the tracker that was asked for, or refused with a word why."""

import pytest
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_images
from typer.testing import CliRunner

from dag_diffusion.cli.commands import app
from dag_diffusion.generation.tracking import require_trackers, tracked


def test_tensorboard_gets_a_point_for_each_look(tmp_path):
    with tracked(["tensorboard"], tmp_path / "curves", {"pool": "a"}) as track:
        track("images", 10, 40)  # of an earlier run
        track("images", 20, 40)
        track("images", 40, 40)
    events = EventAccumulator(str(tmp_path / "curves" / "dag-diffusion")).Reload()
    assert [(point.step, point.value) for point in events.Scalars("images")] == [(10, 10), (20, 20), (40, 40)]
    speeds = [point.value for point in events.Scalars("images per second")]
    assert speeds[0] == 0
    assert min(speeds[1:]) > 0


def test_without_trackers_nothing_is_written(tmp_path):
    with tracked([], tmp_path / "curves", {}) as track:
        track("images", 1, 2)
    assert not list(tmp_path.iterdir())


def test_unknown_tracker_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no tracker 'tensorbord'; choose one of .*tensorboard, wandb"):
        require_trackers(["tensorbord"])


def test_tracker_whose_package_is_absent_is_refused_with_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    write_images(tmp_path / "images", {"cat": 2, "dog": 2})
    monkeypatch.setattr(PartialState, "_shared_state", {})  # as in a new process
    words = ["train", tmp_path / "images", "--output", tmp_path / "generator", "--log-with", "wandb", "--quiet"]
    refused = CliRunner().invoke(app, [str(word) for word in words])
    told = "error: the tracker 'wandb' needs the package wandb, which is not installed; get it with `pip install wandb`"
    assert (refused.exit_code, refused.output) == (2, f"{told}, or leave the tracker out\n")
