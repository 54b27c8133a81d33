"""Prompts of a pool: from templates for all classes, or of each class its own, and each image by its number.

"a photo of a {class}", "a sketch of a {class}"       {"tench": ["a tench in water", "a caught tench"], ...}
prompt of image i = the (i mod n)-th of its class
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.imagenet import described

CLASS = "{class}"


@dataclass(frozen=True)
class Prompts:
    """What a text-to-image pipeline is told to draw.

    Attributes:
        templates: one or several texts for all classes, in which ``{class}`` stands for the name of the class; or a
            mapping from class name to its own one or several, where ``{class}`` may be left out.  The images of a class
            take them in turn.
        negative: what the images should not show; None for none.

    Raises:
        ValueError: there is no text, or one is empty or no text; a template for all classes lacks ``{class}``.
    """

    templates: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    negative: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.templates, Mapping):
            texts: Any = {str(name): _texts(own, f" of the class {name!r}") for name, own in self.templates.items()}
        else:
            texts = _texts(self.templates)
            if without := [text for text in texts if CLASS not in text]:
                raise ValueError(
                    f"the prompt {without[0]!r} would draw all classes alike; put {CLASS} where the name of the class "
                    'belongs, such as "a photo of a {class}", or give each class its own'
                )
        if not texts:
            raise ValueError('there are no prompts; give at least one, such as "a photo of a {class}"')
        object.__setattr__(self, "templates", texts)

    @property
    def class_names(self) -> list[str] | None:
        """The classes that have prompts of their own; None where templates serve all."""
        return list(self.templates) if isinstance(self.templates, Mapping) else None

    def of_classes(self, class_names: Mapping[int, str]) -> dict[int, list[str]]:
        """Label to the prompts of its class, in the order in which its images take them.

        Raises:
            ValueError: a class has no prompts of its own where others have, or two classes share one's.
        """
        own = self.templates
        if not isinstance(own, Mapping):
            return {label: [_filled(text, name) for text in own] for label, name in class_names.items()}
        known = dict(enumerate(own))
        found = match_classes(class_names, known, "the table of prompts", places=True)
        return {
            label: [_filled(text, name) for text in own[known[found[label]]]] for label, name in class_names.items()
        }

    def summary(self) -> dict[str, Any]:
        """For the record; JSON values only."""
        own = self.templates
        kept = {name: list(texts) for name, texts in own.items()} if isinstance(own, Mapping) else list(own)
        return {"templates": kept, "negative": self.negative}


def as_prompts(given: Sequence[str], negative: str | None = None) -> Prompts:
    """Templates as a user types them, or the one JSON file ``{class: prompts}`` that is named.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see ``Prompts``; or the file is no JSON object.
    """
    if len(given) == 1 and given[0].endswith(".json"):
        if not Path(given[0]).is_file():
            raise FileNotFoundError(
                f'there is no file of prompts at {given[0]}; write one such as {{"tench": ["a tench in water"]}}'
            )
        return Prompts(read_json_object(Path(given[0])), negative)
    return Prompts(list(given), negative)


def spoken(class_name: str) -> str:
    """What a class is called in a sentence: its first name, that of a synset in words, without underscores."""
    return described({0: class_name})[0].split(",")[0].replace("_", " ").strip()


def _filled(text: str, class_name: str) -> str:
    return text.replace(CLASS, spoken(class_name))


def _texts(given: Any, whose: str = "") -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else (given,)
    if wrong := [text for text in texts if not (isinstance(text, str) and text.strip())]:
        raise ValueError(f'a prompt{whose} is {wrong[0]!r}; give a text, such as "a photo of a {{class}}"')
    if not texts and whose:
        raise ValueError(f"the prompts{whose} are none; give at least one text, or leave the class out")
    return texts
