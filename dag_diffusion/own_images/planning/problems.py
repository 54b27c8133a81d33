"""Everything that is wrong with a plan, gathered, so that a person mends all of it at once.

with problems.gathered(): a check that raises    ->    problems.refuse() raises one error with a line for each
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ProblemsError(ValueError):
    """Several things are wrong; ``problems`` says each in a sentence."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Problems:
    """Sentences of checks that failed, each once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Note what is raised inside, and go on after it."""
        try:
            yield
        except ProblemsError as error:
            self.found += error.problems
        except (ValueError, OSError) as error:
            self.note(" ".join(str(error).split()))

    def note(self, sentence: str) -> None:
        """One more, unless it is known."""
        if sentence not in self.found:
            self.found.append(sentence)

    def refuse(self) -> None:
        """Raise what was noted.

        Raises:
            ProblemsError: anything was.
        """
        if self.found:
            raise ProblemsError(self.found)
