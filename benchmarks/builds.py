"""Two builds of the package beside each other: the one that is installed, and that of an earlier commit.

    with both_builds("dd3a76c") as builds:
        builds["before"].command("score", "images", folder=...)        # seconds, and MiB at the peak

The earlier one is a ``git worktree`` in a temporary folder, run by the same interpreter with the same libraries.
"""

import compileall
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

import psutil

BASELINE = "dd3a76c"
PAUSE = 0.2  # seconds between two looks at the memory of a command
ROOT = Path(__file__).parents[1]
WHERE = """
import dag_diffusion.cli
from dag_diffusion.pipelines import difficulty_guided
print(dag_diffusion.__file__, difficulty_guided.__file__, sep="\\n")
"""


class Cost(NamedTuple):
    """Wall-clock seconds of a command; and, if it was watched, the most memory of it and its processes, in MiB."""

    seconds: float
    mib: float = 0.0


@dataclass(frozen=True)
class Build:
    """The package as it lies in ``root``; None: as it is installed."""

    root: Path | None = None

    def command(self, *arguments: object, folder: Path, threads: int | None = None, watched: bool = False) -> Cost:
        """Run ``dag-diffusion ARGUMENTS`` in a folder.

        Args:
            threads: of torch in each process; None: as torch chooses.
            watched: also look at its memory all the while, which takes some time from it.

        Raises:
            RuntimeError: it failed; its last words are told.
        """
        return self.python("-m", "dag_diffusion", *arguments, folder=folder, threads=threads, watched=watched)

    def python(self, *arguments: object, folder: Path, threads: int | None = None, watched: bool = False) -> Cost:
        """Run ``python ARGUMENTS`` with this build in a folder; see ``command``."""
        words = [sys.executable, *map(str, arguments)]
        with tempfile.TemporaryFile() as told:
            begun = perf_counter()
            process = subprocess.Popen(  # noqa: S603 - our own commands
                words, cwd=folder, env=self.environment(threads), stdout=told, stderr=told, stdin=subprocess.DEVNULL
            )
            mib = _peak_of(process) if watched else 0.0
            code, seconds = process.wait(), perf_counter() - begun
            if code:
                told.seek(0)
                raise RuntimeError(f"{' '.join(words)} ended with {code}: {told.read().decode()[-2000:]}")
        return Cost(seconds, mib)

    def environment(self, threads: int | None = None) -> dict[str, str]:
        """That of this process, with what finds the build."""
        found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        if self.root is not None:
            found["PYTHONPATH"] = str(self.root)
        return found | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})

    def require_found(self) -> None:
        """Check that this build is what Python imports, and nothing of the other; compile it, as pip does."""
        root = ROOT if self.root is None else self.root
        compileall.compile_dir(root / "dag_diffusion", quiet=1)
        compileall.compile_dir(root / "pipelines", quiet=1)
        with tempfile.TemporaryDirectory() as elsewhere:
            done = subprocess.run(  # noqa: S603 - our own lines
                [sys.executable, "-c", WHERE], cwd=elsewhere, env=self.environment(), capture_output=True, text=True
            )
        found = done.stdout.split("\n")[:2]
        if done.returncode or not all(Path(name).resolve().is_relative_to(root.resolve()) for name in found):
            raise RuntimeError(f"Python imports {found} and not the build in {root}; install it there\n{done.stderr}")


def _peak_of(process: subprocess.Popen) -> float:
    """Most memory of a process and those that it has started, in MiB, until it ends.

    Of one process the system keeps the peak.  Pages that several share are divided among them, and the sum is looked at
    several times a second.  What ``getrusage`` says of a child is at least what this process had when it started it.
    """
    peak, first = 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [first, *first.children(recursive=True)]
        except psutil.Error:
            break
        shares = [_sizes(one) for one in family]
        peak = max(peak, sum(share for _, share in shares), *(highest for highest, _ in shares))
        sleep(PAUSE)
    return peak


def _sizes(process: psutil.Process) -> tuple[float, float]:
    """The peak of a process and its share now, in MiB; nothing if it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        highest = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), 0)
        return int(highest) / 1024, process.memory_full_info().pss / 2**20
    except (OSError, psutil.Error):
        return 0.0, 0.0


@contextmanager
def both_builds(commit: str = BASELINE) -> Iterator[dict[str, Build]]:
    """``before``, of a commit, and ``now``, as installed; each found and compiled."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder, "build")
        subprocess.run([*git, "add", "--quiet", "--detach", str(earlier), commit], check=True)  # noqa: S603
        try:
            # where setup.cfg says it is installed
            (earlier / "dag_diffusion" / "pipelines").symlink_to(earlier / "pipelines")
            builds = {"before": Build(earlier), "now": Build()}
            for build in builds.values():
                build.require_found()
            yield builds
        finally:
            subprocess.run([*git, "remove", "--force", str(earlier)], check=True)  # noqa: S603
