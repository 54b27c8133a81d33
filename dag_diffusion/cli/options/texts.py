"""Options that are typed as one text: names with semicolons, NAME=VALUE, START,STOP, and names of published windows."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .fields import Values, read_fields

if TYPE_CHECKING:
    from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig

GUIDANCE = "guidance.difficulty_guidance:GuidanceConfig"


def classes_listed(text: str | None) -> list[str] | None:
    """Names of "name; name", or with commas where there is no semicolon; None for None.

    Raises:
        ValueError: there is none.
    """
    if text is None:
        return None
    from dag_diffusion.data.class_names import names_typed

    names = names_typed([text if ";" in text else text.replace(",", ";")])
    if not names:
        raise ValueError(f"--classes {text!r} names none; give names with ';' between, or leave it out")
    return names


def parse_call(settings: Sequence[str]) -> Values:
    """Arguments of a pipeline's call from texts such as ``height=512``: JSON values, or else texts.

    Raises:
        ValueError: a text is no NAME=VALUE.
    """
    given = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--call {setting!r} is no argument of a call; write NAME=VALUE, such as height=512")
        try:
            given[name] = json.loads(text)
        except ValueError:
            given[name] = text
    return given


def parse_guidance(settings: Sequence[str], **values: Any) -> "GuidanceConfig":
    """A configuration from texts such as ``stop=0.8``, each a field of ``GuidanceConfig``, and other values.

    Raises:
        ValueError: a text names no field, or its value has another type.
    """
    from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig

    known = read_fields(*GUIDANCE.split(":"))
    given = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ValueError(f"--guidance {setting!r} names no option; write NAME=VALUE with one of {', '.join(known)}")
        try:
            given[name] = known[name].type(text)
        except ValueError as error:
            kind = known[name].type.__name__
            raise ValueError(f"--guidance {name} needs a value of type {kind}, but got {text!r}") from error
    return GuidanceConfig(**(values | given))


def parse_interval(text: str) -> tuple[float, float]:
    """``(start, stop)`` of a text such as ``0.2,0.8``.

    Raises:
        ValueError: it is none.
    """
    try:
        start, stop = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--guidance-interval is {text!r}; write START,STOP as fractions of the steps, such as 0.2,0.8"
        ) from error
    return start, stop


def mode_window_named(name: str | None) -> Values:
    """``start`` and ``stop`` of a published window of mode guidance; nothing for None.

    Raises:
        ValueError: there is no such window.
    """
    from dag_diffusion.guidance.mode_guidance import WINDOWS

    if name is None:
        return {}
    if name not in WINDOWS:
        raise ValueError(f"there is no --mode-window {name!r}; choose one of {', '.join(WINDOWS)}, or leave it out")
    return dict(zip(("start", "stop"), WINDOWS[name], strict=True))
