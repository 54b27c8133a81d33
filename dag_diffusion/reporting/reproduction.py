"""The commands that make pools, distilled sets and reports again, put together from what is recorded.

    pool.json -> generate, subsample, score;   results.json -> evaluate;   run.json -> run;   this process -> report

Options that are at their default are left out.  What a record cannot name, such as a file of modes, stands in capitals,
and a comment before the command says what it was.
"""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dag_diffusion.data.pools import Pool
from dag_diffusion.data.provenance import (
    AMONG_SET,
    GenerationRecord,
    SelectionRecord,
    generation_of,
    origin_of,
    selection_of,
)

PROGRAM = "dag-diffusion"
Record = Mapping[str, Any]


def commands_of(provenance: Record) -> list[str]:
    """Commands for a shell, in the order in which they are given; none for images that other programs made."""
    generated, selection = generation_of(provenance), selection_of(provenance)
    pool = "pool" if generated else "POOL"
    commands = [_line("generate", pool, *_generate(generated))] if generated else []
    if "method" in selection:
        commands.append(_line("subsample", pool, "distilled", *_subsample(selection)))
    return commands


def _line(*words: Any) -> str:
    return shlex.join([PROGRAM, *map(str, words)])


def _generate(record: GenerationRecord) -> Iterator[Any]:
    settings, source = record["settings"], record.get("pipeline", "")
    yield from ("--images-per-class", settings["images_per_class"])
    if source != "embedded default":
        yield from ("--pipeline", source)
    guide = record.get("guide")
    if guide and guide != f"classifier of {source}":
        yield from ("--classifier", guide)
    scale = settings.get("autoguidance_scale")
    if record.get("weak") and (scale or 1) > 1:
        yield from ("--weak", record["weak"])
    if settings.get("target") is not None:
        yield from ("--target", settings["target"].get("text") or "TARGET")
    if settings.get("prompts") is not None:
        yield from _prompts(record)
    elif settings.get("labels") is not None:
        yield from ("--classes", ";".join(map(str, settings["labels"])))
    yield from ("--num-inference-steps", settings.get("num_inference_steps"))
    yield from ("--guidance-scale", settings.get("guidance_scale"))
    if scale is not None and (scale != 1 or _may_autoguide(record)):
        yield from ("--autoguidance-scale", scale)
    yield from _guidance(settings.get("difficulty_guidance") or {}, steered=settings.get("target") is not None)
    yield from _modes(settings)
    yield from _groups(settings)
    for name in (one[0] for one in record.get("extra_guides") or []):
        yield from ("--extra-guide", name)
    if settings.get("prompts") is None and (settings.get("guidance_scale") or 1) > 1:  # the pipeline may have its own
        start_stop = settings.get("guidance_interval", (0.0, 1.0))
        yield from ("--guidance-interval", ",".join(str(share).removesuffix(".0") for share in start_stop))
    yield from ("--seed", settings.get("seed"))
    dtype, networks = record.get("dtype", "float32"), settings.get("precision", "float32")
    if dtype != "float32" or networks == "float32":  # bfloat16 on float32 weights is what the processor decides
        yield from ("--precision", dtype)


def _may_autoguide(record: GenerationRecord) -> bool:
    """Whether the pipeline may have a scale of autoguidance of its own, as the embedded one has not."""
    own = bool(record.get("weights", {}).get("weak_transformer"))
    return own and record.get("pipeline") != "embedded default"


def _prompts(record: GenerationRecord) -> Iterator[Any]:
    given, drawn_by = record["settings"]["prompts"], record.get("drawn_by") or {}
    templates = given.get("templates")
    for text in templates if isinstance(templates, list) else ["PROMPTS.json"]:
        yield from ("--prompt", text)
    if given.get("negative") is not None:
        yield from ("--negative-prompt", given["negative"])
    for name, value in (drawn_by.get("call") or {}).items():
        yield from ("--call", f"{name}={json.dumps(value)}")
    labels = record["settings"].get("labels")
    names = {int(label): name for label, name in record.get("classes", {}).items()}
    yield from ("--classes", ";".join(name for label, name in names.items() if labels is None or label in labels))


def _guidance(given: Record, *, steered: bool) -> Iterator[Any]:
    from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig

    if not steered:
        given = {name: value for name, value in given.items() if name == "among"}  # which measures in any case
    for name, value in given.items():
        if name == "scale" and value != GuidanceConfig.scale:
            yield from ("--difficulty-guidance-scale", value)
        elif name == "among" and value != "all":
            yield from ("--among", value)
        elif value != getattr(GuidanceConfig, name, None):
            yield from ("--guidance", f"{name}={value}")


def _modes(settings: Record) -> Iterator[Any]:
    from dag_diffusion.guidance.mode_guidance import WINDOWS

    given = settings.get("mode_guidance")
    if settings.get("modes") is None or not isinstance(given, dict):
        return
    yield from ("--modes", "MODES.safetensors")
    if given.get("scale") is not None:
        yield from ("--mode-scale", given["scale"])
    if windows := [name for name, window in WINDOWS.items() if window == (given.get("start"), given.get("stop"))]:
        yield from ("--mode-window", windows[0])
    if given.get("proportional"):
        yield "--modes-by-size"


def _groups(settings: Record) -> Iterator[Any]:
    candidates, diversity = settings.get("noise_candidates", 1), settings.get("diversity") or {}
    if "group_size" in settings:
        yield from ("--group-size", settings["group_size"])
    if candidates != 1:
        yield from ("--noise-candidates", candidates)
    if diversity.get("scale"):
        yield from ("--diversity", diversity["scale"])


def _subsample(selection: SelectionRecord) -> Iterator[Any]:
    from dag_diffusion.sampling.selection import SelectionRule

    yield from ("--ipc", selection.get("ipc"))
    if (target := selection.get("target")) is not None:
        yield from ("--target", target.get("text") or "TARGET")
    recorded: Record = selection
    for option in fields(SelectionRule):
        if option.name in recorded and recorded[option.name] != option.default:
            flag, value = f"--{option.name.replace('_', '-')}", recorded[option.name]
            yield from (flag,) if value is True else (flag, value)
    if "rounds" in selection:
        yield from ("--rounds", selection["rounds"])
    yield from ("--seed", selection.get("seed"))


def commands_for(pools: Sequence[tuple[Path, Pool]], others: Iterable[str] = ()) -> list[str]:
    """Commands for these pools and sets, the pools of the sets before them, then ``others``; each once.

    Args:
        pools: each with the path to write into its command.
        others: recorded commands, such as those of evaluations.
    """
    lines: list[str] = []
    for path, pool in pools:
        try:
            lines += _of_one(path, pool)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # a record of another program
            lines.append(_comment(f"{path}: its pool.json does not say how it was made"))
    return list(dict.fromkeys([*lines, *map(program_of, others)]))


def this_command(*, without: str | None = None) -> str:
    """The command that is running, as one would type it, perhaps without an option."""
    return shlex.join(word for word in sys.argv if word != without)


def program_of(command: str) -> str:
    """A recorded command whose first word is the program's name instead of the place of its file."""
    try:
        first, *others = shlex.split(command)  # its place may have blanks
    except ValueError:  # nothing, or no command of a shell
        return command
    is_ours = first.endswith((f"/{PROGRAM}", "dag_diffusion/__main__.py"))
    return shlex.join([PROGRAM, *others]) if is_ours else command


def _of_one(path: Path, pool: Pool) -> list[str]:
    selection, generated = selection_of(pool.provenance), generation_of(pool.provenance)
    origin = (origin_of(pool.provenance) or "POOL") if selection else str(path)
    lines = []
    for words in map(shlex.split, commands_of(pool.provenance)):
        if words[1] == "generate":
            words[2:3] = [origin]
            lines += [*_comments(words, generated["settings"]), shlex.join(words)]
        else:
            words[2:4] = [origin, str(path)]
            lines += [*_comments(words, selection), shlex.join(words)]
    return lines if selection else [*lines, *_score(path, pool)]


def _comments(words: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """What the words in capitals stood for."""
    comments = []
    if "TARGET" in words:
        comments.append(_comment(f"TARGET: {settings['target'].get('name')}"))
    if "PROMPTS.json" in words:
        comments.append(
            _comment(f"PROMPTS.json: {json.dumps(settings['prompts'].get('templates'), ensure_ascii=False)}")
        )
    if "MODES.safetensors" in words:
        modes = settings["modes"]
        digest = str(modes.get("sha256"))[:12]
        comments.append(_comment(f"MODES.safetensors: {modes.get('modes')} modes of find-modes, sha256 {digest}"))
    return comments


def _score(path: Path, pool: Pool) -> list[str]:
    """Only for difficulties that `score` wrote: a generated pool has those of its own guide from the start."""
    by = str(pool.rows[0].get("difficulty_by") or "") if pool.rows else ""
    what, _, names = by.partition(" by ")
    if not names:
        return []
    measure = what.removesuffix(AMONG_SET)
    parts = [PROGRAM, "score", str(path), *(["--measure", measure] if measure != "error_probability" else [])]
    parts += ["--among", "set"] if measure != what else []
    for name in names.split(", "):
        parts += [] if name == "embedded guide" else ["--classifier", name]
    return [shlex.join(parts)]


def _comment(text: str) -> str:
    return "# " + " ".join(text.split())


def command_of_run(output: Path, settings: Mapping[str, Any]) -> str:
    """The ``run`` command of a distillation from the settings that were given, by their names in the configuration."""
    return _with_options([PROGRAM, "run", "--output", str(output)], settings)


def command_of_folder(folder: Path, output: Path, settings: Mapping[str, Any]) -> str:
    """The ``distill`` command of a folder from the settings that were given, by their names in the configuration."""
    return _with_options([PROGRAM, "distill", str(folder), "--output", str(output)], settings)


def _with_options(words: Sequence[str], settings: Mapping[str, Any]) -> str:
    parts = [shlex.join(words)]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        values = value if isinstance(value, list) else [value]
        parts += [flag] if value is True else [f"{flag} {shlex.quote(str(one))}" for one in values]
    return " ".join(parts)
