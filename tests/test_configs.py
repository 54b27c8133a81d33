"""Options from a file: the command line wins, a mistake is one line and exit code 2, what was saved repeats the run."""

import sys
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_pipeline, write_images
from typer.main import get_command
from typer.testing import CliRunner

from dag_diffusion import read_pool
from dag_diffusion.cli import commands as cli
from dag_diffusion.cli.console import at_home
from dag_diffusion.cli.options import Base
from dag_diffusion.cli.options.config_files import add_config_options


@pytest.fixture
def pool(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 8, "Coat": 8}, difficulty=lambda name, index: index / 8)
    return tmp_path / "pool"


@pytest.fixture
def call(monkeypatch, capsys):
    """The command as a shell starts it: exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dag-diffusion", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def write(path, **values):
    path.write_text(yaml.safe_dump({key.replace("_", "-"): value for key, value in values.items()}))
    return path


def test_file_gives_arguments_options_lists_and_flags(tmp_path, pool, call):
    sets = tmp_path / "sets"
    options = {"pool": str(pool), "output": str(sets), "ipc": [2, 4], "target": 0.5, "method": "matching"}
    code, _, errors = call("subsample", "--config", write(tmp_path / "c.yaml", **options))
    assert code == 0, errors
    assert [len(read_pool(sets / name)) for name in ("ipc-2", "ipc-4")] == [4, 8]
    assert read_pool(sets / "ipc-2").provenance["selection"]["target"]["name"] == "0.5"
    again = write(tmp_path / "c.yaml", **options, overwrite=True, quiet=True)
    assert call("subsample", "--config", again)[0] == 0


def test_command_line_wins_over_the_file(tmp_path, pool, call):
    config = write(tmp_path / "c.yaml", ipc=[2, 4], method="random", seed=3)
    code, _, errors = call("subsample", pool, tmp_path / "set", "--config", config, "--ipc", 3, "--method", "hardest")
    assert code == 0, errors
    made = read_pool(tmp_path / "set")
    assert len(made) == 6
    assert min(made.difficulties) == 5 / 8
    assert made.provenance["selection"]["seed"] == 3


def test_names_may_be_written_with_underscores_and_nothing_counts_as_absent(tmp_path, pool, call):
    config = tmp_path / "c.yaml"
    config.write_text("skip_unscored: true\nipc: 2\ntarget:\nmethod: random  # a comment\n")
    code, _, errors = call("subsample", pool, tmp_path / "set", "--config", config)
    assert code == 0, errors
    assert len(read_pool(tmp_path / "set")) == 4


MISTAKES = {
    "unknown key": ("metod: random", "'metod'; did you mean 'method'?"),
    "unknown key like none": ("xyzzyx: 1", "this command knows pool, output, ipc"),
    "option of another command": ("num-inference-steps: 3", "unknown key"),
    "the config itself": ("config: other.yaml", "unknown key"),
    "no number": ("ipc: many", "'--ipc'"),
    "out of range": ("ipc: 0", "'--ipc'"),
    "fraction for a whole number": ("seed: 1.5", "'--seed'"),
    "flag that is neither yes nor no": ("overwrite: 3", "'--overwrite'"),
    "list for one value": ("method: [random, hardest]", "is a list"),
    "mapping for a value": ("ipc: {from: 1}", "is a mapping"),
    "said twice alike": ("ipc: 2\nseed: 1\nipc: 3", "it says 'ipc' twice"),
    "said twice": ("skip-unscored: true\nskip_unscored: false", "twice, under two of its names"),
    "a list": ("- ipc\n- 3", "holds a list"),
    "one word": ("ipc", "holds a str"),
    "no YAML": ("ipc: [1, 2", "is no YAML"),
    "no safe YAML": ("ipc: !!python/object/apply:os.getcwd []", "is no YAML"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_in_the_file_is_one_line_and_exit_code_two(tmp_path, pool, call, case):
    text, expected = MISTAKES[case]
    (tmp_path / "c.yaml").write_text(text)
    code, output, errors = call("subsample", pool, tmp_path / "set", "--config", tmp_path / "c.yaml")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: ")
    assert expected in errors
    assert not (tmp_path / "set").exists()


def test_file_that_is_not_there_or_a_folder_is_named(tmp_path, call):
    for path in (tmp_path / "missing.yaml", tmp_path):
        code, _, errors = call("run", "--config", path)
        assert (code, errors.count("\n")) == (2, 1)
        assert f"{path} cannot be read" in errors


def test_name_of_a_parameter_is_not_that_of_its_option(tmp_path, call):
    code, _, errors = call("generate", tmp_path / "pool", "--config", write(tmp_path / "c.yaml", compiled=True))
    assert code == 2
    assert "did you mean 'compile'?" in errors


def test_empty_file_changes_nothing(tmp_path, pool, call):
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert (
        call("subsample", pool, tmp_path / "set", "--ipc", 2, "--target", "hill", "--config", tmp_path / "c.yaml")[0]
        == 0
    )


def test_saved_selection_is_repeated_by_its_file(tmp_path, pool, call):
    saved, first, second = tmp_path / "run.yaml", tmp_path / "first", tmp_path / "second"
    options = ["--ipc", 3, "--method", "random", "--seed", 7, "--save-config", saved]
    assert call("subsample", pool, first, *options)[0] == 0
    assert call("subsample", pool, second, "--config", saved)[0] == 0
    assert read_pool(first).rows == read_pool(second).rows
    values = yaml.safe_load(saved.read_text())
    assert (values["ipc"], values["seed"], values["tolerance"]) == ([3], 7, 0.01)  # defaults too: they may change


def test_saved_pool_is_repeated_by_its_file(tmp_path, call):
    tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    small = ["--images-per-class", 2, "--num-inference-steps", 2, "--guidance-scale", 1, "--quiet"]
    steered = ["--pipeline", tmp_path / "pipeline", "--target", 0.5, "--guidance", "every=2", "--classes", "Bag"]
    made = call("generate", tmp_path / "first", *small, *steered, "--save-config", tmp_path / "c.yaml")
    assert made[0] == 0, made
    assert call("generate", tmp_path / "second", "--config", tmp_path / "c.yaml")[0] == 0
    first, second = (read_pool(tmp_path / name) for name in ("first", "second"))
    assert first.rows == second.rows
    assert first.provenance["settings"] == second.provenance["settings"]


def test_saving_replaces_an_earlier_record_and_nothing_else(tmp_path, pool, call):
    saved, notes = tmp_path / "c.yaml", write(tmp_path / "notes.yaml", mine=1)
    for count in (2, 3):
        assert (
            call(
                "subsample", pool, tmp_path / f"{count}", "--ipc", count, "--method", "random", "--save-config", saved
            )[0]
            == 0
        )
    assert yaml.safe_load(saved.read_text())["ipc"] == [3]
    for path in (notes, tmp_path):
        code, _, errors = call("subsample", pool, tmp_path / "set", "--save-config", path)
        assert (code, errors.count("\n")) == (2, 1)
        assert str(path) in errors
    assert yaml.safe_load(notes.read_text()) == {"mine": 1}
    assert not (tmp_path / "set").exists()


def test_plain_words_and_numbers_are_taken_as_they_are_written(tmp_path):
    seen, app = [], typer.Typer()

    @app.command()
    def command(words: list[str], text: str = "", other: str = "kept", flag: bool = False, off: bool = True) -> None:
        seen.append((words, text, other, flag, off))

    add_config_options(app)
    text = "words: [no, 'yes', 010, 1e3, 2024-01-01]\ntext: off\nother: null\nflag: true\noff: no\n"
    (tmp_path / "c.yaml").write_text(text)
    result = CliRunner().invoke(app, ["--config", str(tmp_path / "c.yaml")])
    assert result.exit_code == 0, result.output
    assert seen == [(["no", "yes", "010", "1e3", "2024-01-01"], "off", "kept", True, False)]


def test_option_of_two_names_is_saved_under_one_of_them(tmp_path):
    seen, app = [], typer.Typer()

    @app.command()
    def command(base: Base = None) -> None:
        seen.append(base)

    add_config_options(app)
    saved = tmp_path / "c.yaml"
    for arguments in (["--from", "dit", "--save-config", str(saved)], ["--config", str(saved)]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert seen == ["dit", "dit"]


@pytest.mark.parametrize("flag", ["--dry-run", "--estimate"])
def test_saved_dry_run_starts_the_work(tmp_path, flag):
    seen, app = [], typer.Typer()

    @app.command()
    def command(dry_run: bool = False, estimate: bool = False, ipc: int = 10) -> None:
        seen.append((dry_run or estimate, ipc))

    add_config_options(app)
    saved = str(tmp_path / "c.yaml")
    for arguments in ([flag, "--ipc", "3", "--save-config", saved], ["--config", saved]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert seen == [(True, 3), (False, 3)]


def test_folder_that_push_stages_into_is_saved_so_that_its_file_never_uploads(tmp_path, call):
    staged, saved = tmp_path / "staged", tmp_path / "c.yaml"
    call("push", tmp_path / "missing", "me/set", "--dry-run", staged, "--save-config", saved)
    assert yaml.safe_load(saved.read_text())["dry-run"] == str(staged)


def test_home_is_found_in_a_file_and_behind_an_equals_sign(tmp_path, pool, call, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "c.yaml", pool="~/pool", output="~/set", ipc=[1], target="0.5", quiet=True)
    code, _, errors = call("subsample", "--config=~/c.yaml", "--save-config=~/saved.yaml")
    assert code == 0, errors
    assert len(read_pool(tmp_path / "set")) == 2
    assert (tmp_path / "saved.yaml").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("~/a", "/home/me/a"),
        (Path("~/a"), Path("/home/me/a")),
        (["random:~/a", "b"], ["random:/home/me/a", "b"]),
        ("~", "/home/me"),
        ("./~/a", "./~/a"),
        ("a~b", "a~b"),
        ("~nobody-of-that-name/a", "~nobody-of-that-name/a"),
        (("~/a", 3), ("/home/me/a", 3)),
        (None, None),
    ],
)
def test_only_a_leading_tilde_is_home(monkeypatch, value, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert at_home(value) == expected


@pytest.mark.parametrize("name", get_command(cli.app).commands)
def test_every_command_reads_and_writes_configs(name, tmp_path, call):
    code, output, _ = call(name, "--help")
    assert code == 0
    assert {"--config", "--save-config"} <= set(output.split())
    code, _, errors = call(name, "--config", write(tmp_path / "c.yaml", no_such_option=1))
    assert code == 2
    assert "unknown key 'no-such-option'" in errors


@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    number=st.floats(allow_nan=False),
    many=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), min_size=1, max_size=3),
    flag=st.booleans(),
)
def test_any_value_comes_back_as_it_was(tmp_path_factory, text, number, many, flag):
    seen, app = [], typer.Typer()

    @app.command()
    def command(text: str = "", number: float = 0.0, many: list[str] | None = None, flag: bool = False) -> None:
        seen.append((text, number, many, flag))

    add_config_options(app)
    saved = tmp_path_factory.getbasetemp() / "any.yaml"
    saved.unlink(missing_ok=True)
    given = [
        f"--text={text}",
        f"--number={number!r}",
        *(f"--many={one}" for one in many),
        *(["--flag"] if flag else []),
    ]
    for arguments in ([*given, "--save-config", str(saved)], ["--config", str(saved)]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert seen[0] == seen[1] == (text, number, many, flag)
