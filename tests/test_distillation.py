"""The whole road at its smallest: every file that it promises, and the same figures when it is run again."""

import json

import pytest
from typer.testing import CliRunner

from dag_diffusion import read_pool
from dag_diffusion.cli import app
from dag_diffusion.distillation import DAG_DGS, DGS, PAPER, REAL, UNGUIDED, RoadConfig, distill

TINY = RoadConfig(ipc=1, pool_factor=2, network="convnet-2-w4", seeds=2, num_inference_steps=2)


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    stages = []
    output = tmp_path_factory.mktemp("road") / "first run"
    result = distill(output, TINY, progress=lambda stage, done, total: stages.append((stage, done, total)))
    return output, result, stages


def test_road_leaves_pools_sets_results_and_a_report(road):
    output, result, _ = road
    assert {len(read_pool(output / f"pool-{name}")) for name in ("unguided", "dag")} == {20}
    assert {len(read_pool(output / f"set-{name}")) for name in ("paper", "dgs", "dag-dgs")} == {10}
    assert result.report.read_text().startswith("<!")
    assert {r["set"] for r in json.loads((output / "results.json").read_text())["results"]} == {
        REAL,
        UNGUIDED,
        PAPER,
        DGS,
        DAG_DGS,
    }


def test_every_stage_reports_progress_to_its_end(road):
    ends = {stage: (done, total) for stage, done, total in road[2]}
    assert ends == {"pool, unguided": (20, 20), "pool, DAG": (20, 20), "training and testing": (10, 10)}


def test_control_is_measured_by_guide_and_evaluator(road):
    pairs = [("unguided", "guide"), ("unguided", "evaluator"), ("DAG", "guide"), ("DAG", "evaluator")]
    assert [(c.pool, c.classifier) for c in road[1].control] == pairs


def test_running_it_again_gives_the_same_accuracies_without_drawing_anew(road):
    output, first, _ = road
    before = {path: path.stat().st_mtime_ns for path in output.glob("pool-*/*/*.png")}
    again = distill(output, TINY)
    assert [r.accuracy for r in again.results] == [r.accuracy for r in first.results]
    assert {path: path.stat().st_mtime_ns for path in output.glob("pool-*/*/*.png")} == before


def test_other_settings_in_the_same_folder_are_refused_in_one_line(road):
    options = ["--output", str(road[0]), "--ipc", "1", "--pool-factor", "3", "--num-inference-steps", "2", "--quiet"]
    result = CliRunner().invoke(app, ["run", *options])
    assert result.exit_code == 2
    assert "pool_factor was 2 and is now 3" in result.stderr


def test_killed_training_is_not_repeated(road):
    output, first, _ = road
    lines = (output / "trainings.jsonl").read_text().splitlines(keepends=True)
    (output / "trainings.jsonl").write_text("".join(lines[:5]))
    again = distill(output, TINY)
    assert [r.seconds for r in again.results[:5]] == [r.seconds for r in first.results[:5]]
    assert [r.accuracy for r in again.results] == [r.accuracy for r in first.results]


def test_another_seed_shares_no_draw_and_no_training(road):
    from dag_diffusion.training import derived_seeds

    assert not set(derived_seeds(0, 50)) & set(derived_seeds(1, 50))
    assert {r.seed for r in road[1].results} == set(derived_seeds(0, 2))
