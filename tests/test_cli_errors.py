"""Whatever is raised ends a command in one line and the exit code that shells expect."""

import errno
import os
import struct
import subprocess
import sys
import zlib

import pytest
import typer
import yaml
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch.distributed import TCPStore

from dag_diffusion import processes
from dag_diffusion.cli import commands
from dag_diffusion.cli.console import report_user_errors, user_errors
from dag_diffusion.cli.options.wording import Words
from dag_diffusion.data.files import write_atomically
from dag_diffusion.processes import KilledError, StoppedError
from dag_diffusion.progress import Stage


def ended(capsys, work, command="generate"):
    """Exit code of ``work`` as a command, and what it says on standard error."""
    with pytest.raises(typer.Exit) as stopped, user_errors(Words(command, commands.OPTIONS)):
        work()
    return stopped.value.exit_code, capsys.readouterr().err


def raising(error):
    def work():
        raise error

    return work


class UnheardOfError(Exception):
    """Of a library that nobody has thought of."""


ERRORS = [
    KeyError("img_size"), IndexError("list index out of range"), TypeError("unsupported"), AssertionError(),
    AttributeError("no attribute"), RecursionError("maximum recursion depth exceeded"), NotImplementedError("later"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), SafetensorError("header too large"),
    struct.error("unpack requires 4 bytes"), zlib.error("Error -3"), EOFError(), StopIteration(), OverflowError("int"),
    ModuleNotFoundError("No module named 'webdataset'"), Image.DecompressionBombError("900000000 pixels"),
    RuntimeError("shape\n  frame #0: 0x7f\n  frame #1: 0x7f"), MemoryError(), UnheardOfError("\x1b[2Jwiped"),
    OSError(errno.ENOSPC, "No space left on device"), ValueError(), Exception(),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_ends_in_one_printable_line_and_exit_code_2(capsys, error):
    code, said = ended(capsys, raising(error))
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert said.removesuffix("\n").isprintable()
    assert len(said) > len("error: \n")


def test_line_tells_what_to_do_where_that_is_known(capsys, tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    assert "download it again" in ended(capsys, lambda: safe_open(tmp_path / "torn.safetensors", "pt"))[1]
    assert "pip" in ended(capsys, lambda: __import__("no_such_package"))[1]
    full = OSError(errno.ENOSPC, "No space left on device")
    assert ended(capsys, raising(full))[1].endswith("give the command again with --resume\n")


@pytest.mark.parametrize(
    ("command", "several", "way"),
    [
        ("generate", False, "give a smaller --batch-size"),
        ("generate", True, "give a smaller --batch-size or --num-processes"),
        (
            "train",
            False,
            "give a smaller --batch-size or --size or a larger --accumulation or --gradient-checkpointing",
        ),
        ("evaluate", False, "give a smaller --size or --at-once"),
        ("report", False, "give it fewer or smaller images"),
    ],
)
def test_where_memory_is_short_only_options_that_help_are_named(capsys, monkeypatch, command, several, way):
    monkeypatch.setattr("dag_diffusion.cli.errors.is_started", lambda: several)
    lacking = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    assert ended(capsys, raising(lacking), command)[1] == f"error: the device ran out of memory; {way}\n"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), KilledError("killed", 9)], ids=lambda error: type(error).__name__
)
def test_stopped_from_outside_a_command_tells_how_it_goes_on(monkeypatch, capsys, error):
    for command, way in [("generate", "with --resume"), ("run", "the same command goes on"), ("report", "ed\n")]:
        words = Words(command, commands.OPTIONS, commands.GOING_ON.get(command, ""))
        with pytest.raises(typer.Exit), user_errors(words):
            raise error
        assert way in capsys.readouterr().err


SYSTEM_ERRORS = {
    "missing": (lambda place: (place / "no.json").read_bytes(), "there is no {}/no.json; check how it is spelled"),
    "folder": (lambda place: place.read_bytes(), "{} is a folder, but a file is expected; give the path of a file"),
    "no folder": (lambda place: (place / "file/x").read_bytes(), "{}/file/x leads through a file as if it were"),
    "not free": (lambda place: (place / "file").mkdir(), "{}/file exists already, and not as a folder"),
    "over a folder": (lambda place: write_atomically(place / "folder", b""), "{}/folder is a folder, but a file is"),
    "long": (lambda place: (place / ("a" * 300)).touch(), "is too long for the disk; choose a shorter one"),
}


@pytest.mark.parametrize(("work", "words"), SYSTEM_ERRORS.values(), ids=SYSTEM_ERRORS)
def test_what_the_system_says_of_a_file_is_told_in_words_with_its_own_name(capsys, tmp_path, work, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    code, said = ended(capsys, lambda: work(tmp_path))
    assert code == 2
    assert words.format(tmp_path) in said
    assert "Errno" not in said
    assert ".partial" not in said


@pytest.fixture
def launcher(monkeypatch):
    """What a process finds that torch's launcher has started: who it is, and where the launcher answers."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in {**found, "LOCAL_RANK": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    return store


def test_of_several_processes_the_first_that_fails_tells_why(capsys, launcher):
    assert ended(capsys, raising(ValueError("wrong"))) == (2, "error: wrong\n")
    assert ended(capsys, raising(ValueError("wrong"))) == (2, "")


def test_of_several_processes_the_first_to_warn_of_something_does(launcher):
    assert [processes.is_first_to_say(text) for text in ("3 are left out", "3 are left out", "4 are left out")] == [
        True,
        False,
        True,
    ]


def test_each_tells_it_where_no_launcher_answers(capsys, launcher, monkeypatch):
    monkeypatch.setattr("dag_diffusion.processes.STORE_SECONDS", 0.1)
    monkeypatch.setenv("MASTER_PORT", "1")
    assert ended(capsys, raising(ValueError("wrong"))) == (2, "error: wrong\n")


def test_line_tells_whose_exception_it_is(capsys):
    said = ended(capsys, lambda: yaml.safe_load(3))[1]
    assert said.startswith("error: yaml cannot go on (AttributeError: ")
    said = ended(capsys, lambda: Stage("images", 1, progress=3))[1]
    assert said.startswith("error: a fault of dag-diffusion (TypeError: 'int' object is not callable)")


def test_traceback_comes_above_the_line_when_it_is_asked_for(capsys, monkeypatch):
    assert "Traceback" not in ended(capsys, raising(ValueError("wrong")))[1]
    monkeypatch.setenv("DAG_DIFFUSION_DEBUG", "1")
    said = ended(capsys, raising(ValueError("wrong")))[1]
    assert said.startswith("Traceback")
    assert said.endswith("\nerror: wrong\n")


def test_what_stops_a_command_from_outside_keeps_its_own_code(capsys):
    assert ended(capsys, raising(KeyboardInterrupt()))[0] == 130
    assert ended(capsys, raising(StoppedError("stopped as asked")))[0] == 143
    assert ended(capsys, raising(KilledError("killed", 9)))[0] == 137
    assert ended(capsys, raising(typer.Exit(7)))[0] == 7


def test_reader_that_has_gone_is_no_error(capfd):
    kept = os.dup(1)
    with pytest.raises(typer.Exit) as stopped, user_errors():
        raise BrokenPipeError
    os.dup2(kept, 1)
    os.close(kept)
    assert stopped.value.exit_code == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (typer.Abort(), 130), (BrokenPipeError(), 141), (KeyError("option"), 2)],
    ids=lambda value: type(value).__name__,
)
def test_so_does_what_comes_before_or_after_a_command(monkeypatch, capfd, error, code):
    monkeypatch.setattr(commands, "app", lambda **options: raising(error)())
    kept = os.dup(1)
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    os.dup2(kept, 1)
    os.close(kept)
    assert stopped.value.code == code
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_closed_output_is_no_error(monkeypatch, capsys, closed):
    monkeypatch.setattr(commands, "app", lambda **options: report_user_errors(lambda: None)())
    monkeypatch.setattr(sys, closed, None)
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 0
    assert not capsys.readouterr().err


def test_libraries_that_are_imported_later_stay_quiet_too():
    code = """
from dag_diffusion.cli.console import user_errors
with user_errors():
    from huggingface_hub.utils.logging import get_logger
    get_logger("huggingface_hub.utils").warning("Retrying in 8s")
"""
    unset = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    assert not subprocess.run([sys.executable, "-c", code], env=unset, capture_output=True, check=True).stderr
