"""The scripts for clusters: what they start is valid, and two nodes that share a folder fill one pool."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from pools_on_disk import content
from typer.main import get_command
from warm import Command, interpreter

from dag_diffusion.cli.commands import app

SCALING = Path(__file__).parent.parent / "examples" / "scaling"
SLURM = (SCALING / "imagenet.slurm").read_text()
SKYPILOT = yaml.safe_load((SCALING / "skypilot.yaml").read_text())
KUBERNETES = yaml.safe_load((SCALING / "kubernetes.yaml").read_text())
POD = KUBERNETES["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
SCRIPTS = {
    "slurm": re.search(r"bash -c '(.*?)'\n", SLURM, re.S)[1],
    "skypilot": SKYPILOT["run"],
    "kubernetes": POD["containers"][0]["args"][0].removeprefix("exec "),
}
NODE = {  # what the three say to the second of two nodes
    "SLURM_NNODES": "2", "SLURM_NODEID": "1", "GPUS": "8", "MAIN": "10.0.0.1", "PORT": "29500", 
    "POOL": "/pools/imagenet",
    "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "8",
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "NODES": "2", "JOB_COMPLETION_INDEX": "1",
}  # fmt: skip


def words(script: str) -> list[str]:
    """What the shell makes of a script: the words that ``accelerate`` gets."""
    echo = 'accelerate() { printf "%s\\0" "$@"; }; '
    done = subprocess.run(
        ["bash", "-uc", echo + script], env=os.environ | NODE, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_accelerate_and_generate_understand_what_they_are_given(name):
    given = words(SCRIPTS[name])
    assert given[0] == "launch"
    launch = launch_command_parser().parse_args(given[1:])
    assert (launch.num_machines, launch.num_processes, launch.machine_rank, launch.multi_gpu) == (2, 16, 1, True)
    assert [launch.training_script, *launch.training_script_args[:2]] == [
        "dag_diffusion",
        "generate",
        "/pools/imagenet",
    ]
    generate = get_command(app).commands["generate"].make_context("generate", launch.training_script_args[1:])
    assert generate.params["resume"]
    assert generate.params["images_per_class"] == 250


def test_all_scripts_make_the_same_pool():
    settings = [(given := words(script))[given.index("--images-per-class") :] for script in SCRIPTS.values()]
    assert settings[0] == settings[1] == settings[2]


def test_one_node_lost_ends_or_restarts_all():
    assert "--kill-on-bad-exit=1" in SLURM
    assert KUBERNETES["spec"]["replicatedJobs"][0]["template"]["spec"]["backoffLimit"] == 0
    assert KUBERNETES["spec"]["failurePolicy"]["maxRestarts"] > 0


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def cluster(tmp_path) -> Path:
    """A folder with an ``srun`` of two nodes, both on this machine, and a ``scontrol`` that notes what it is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(
        folder / "srun",
        'shift; SLURM_NODEID=0 "$@" & first=$!\nSLURM_NODEID=1 "$@" & second=$!\nwait $first && wait $second',
    )
    program(folder / "scontrol", f'echo "$@" >> {folder}/asked; echo 127.0.0.1')
    return folder


def submitted(cluster: Path, pool: Path, pipeline: Path, *more: str) -> subprocess.CompletedProcess:
    """What comes of the script of SLURM, the tiny pipeline in place of DiT-XL/2."""
    small = f"--images-per-class 7 --pipeline '\"{pipeline}\"' --num-inference-steps 2 --batch-size 2 {' '.join(more)}"
    text = re.sub(r"--images-per-class 250.*?--batch-size 64", lambda _: small.replace("'", ""), SLURM, flags=re.S)
    script = cluster / "script"
    script.write_text(text)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(cluster), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "SLURM_JOB_NODELIST": "node[0-1]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_ID": str(os.getpid()),
    }
    with interpreter(cluster) as python:
        program(cluster / "accelerate", f'exec "{python}" -m accelerate.commands.accelerate_cli "$@"')
        environment |= {"PYTHON_EXEC": str(python)}  # what torch's launcher starts
        return subprocess.run(["bash", script, pool], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_two_nodes_fill_the_pool_that_one_process_fills(tmp_path, cluster, saved_pipeline):
    done = submitted(cluster, tmp_path / "two nodes", saved_pipeline)
    assert done.returncode == 0, done.stderr
    assert "requeue" not in (cluster / "asked").read_text()
    assert "2 process(es)" in (tmp_path / "two nodes" / "generation.log").read_text()
    small = ["--images-per-class", "7", "--num-inference-steps", "2", "--batch-size", "2", "--quiet"]
    assert Command("generate", tmp_path / "one", "--pipeline", saved_pipeline, *small).wait() == 0
    assert content(tmp_path / "two nodes") == content(tmp_path / "one")


@pytest.mark.parametrize(
    ("step", "again"), [('mkdir -p "$POOL"; touch "$POOL/1.png"; exit 3', True), ("exit 3", False)]
)
def test_job_that_got_further_goes_back_into_the_queue(tmp_path, cluster, step, again):
    program(cluster / "srun", step)
    done = submitted(cluster, tmp_path / "pool", tmp_path / "tiny")
    assert done.returncode == 3
    assert (f"requeue {os.getpid()}" in (cluster / "asked").read_text()) == again
