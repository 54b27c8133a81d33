"""How much faster this build is than that of dd3a76c, both in turn on one machine, as ratios with their range.

    python benchmarks/speed.py                           # all rows, which takes hours
    python benchmarks/speed.py run evaluate-quick        # some of them
    python benchmarks/speed.py --small --pairs 1         # seconds each: whether it works, recorded in runs/ alone
    python benchmarks/speed.py pool --fresh              # measure anew what is recorded

Each pair is added to benchmarks/results/speed.json at once; the same command goes on until every row has ``--pairs`` of
them.  Whole commands are timed, with starting and loading, in a process of their own.  Which build begins alternates.
Beside the times stands what should not have changed: accuracies, the evaluator's error, Fréchet distances.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from builds import BASELINE, ROOT, Build, both_builds
from embedded import RESULTS, record

from dag_diffusion import embedded, load_classifier, read_pool, score_pool
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import METADATA

PAIRS = 5
REFERENCE, TEST = "reference", "test"  # real images in the folder of a row
Pair = dict[str, Any]  # seconds of each way, and what should be equal


@dataclass(frozen=True)
class Turn:
    """One measurement of a row.

    Attributes:
        builds: ``before`` and ``now``.
        folder: where the row's inputs are.
        output: an empty folder.
        small: whether it is only tried out.
        number: of the turn, from 0 on.
    """

    builds: Mapping[str, Build]
    folder: Path
    output: Path
    small: bool
    number: int

    @property
    def ways(self) -> tuple[str, str]:
        """``before`` and ``now`` in the order of this turn."""
        return ("before", "now") if self.number % 2 == 0 else ("now", "before")

    def seconds(self, *arguments: object, threads: int | None = None, now: tuple[object, ...] = ()) -> dict[str, float]:
        """Of a command by both builds; ``OUTPUT`` in an argument stands for a folder of its own; ``now`` for ours."""
        found = {}
        for way in self.ways:
            words = [str(one).replace("OUTPUT", str(self.output / way)) for one in arguments]
            more = now if way == "now" else ()
            found[way] = self.builds[way].command(*words, *more, folder=self.folder, threads=threads).seconds
        return found


# -- inputs


def reference(folder: Path, small: bool) -> None:
    """Real images, where a command may write beside them; in a trial, few test images too."""
    shutil.copytree(embedded.REFERENCE, folder / REFERENCE)
    if small:
        part_of_reference(folder / TEST, slice(90, 100))


def part_of_reference(folder: Path, of_class: slice) -> None:
    """Some real images of each class, with their rows."""
    real = read_pool(embedded.REFERENCE)
    rows = [row for label in real.class_names for row in [r for r in real.rows if r["label"] == label][of_class]]
    for row in rows:
        (folder / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real.path / row["file_name"], folder / row["file_name"])
    (folder / METADATA).write_bytes(json_lines(rows))


def tests_of(turn: Turn) -> list[str]:
    return ["--test", TEST] if turn.small else []


def sets(folder: Path, small: bool) -> None:
    """Sets of different real images, ten of each class."""
    reference(folder, small)
    for number, name in enumerate(names_of_sets(5)):
        part_of_reference(folder / name, slice(10 * number, 10 * number + 10))


def names_of_sets(count: int) -> list[str]:
    return [f"set-{number}" for number in range(count)]


def photographs(classifier: str, images: int, folder: Path, small: bool) -> None:
    from scoring import CLASSIFIERS, photograph_pool

    photograph_pool(folder / "photographs", 8 if small else images)
    photograph_pool(folder / "few", 8)
    CLASSIFIERS[classifier](folder / "classifier")


# -- rows


def whole_run(turn: Turn) -> Pair:
    options = ["--ipc", 1, "--seeds", 1, "--pool-factor", 1] if turn.small else []
    same = ("--rounds", "1")  # the older build knows no other
    found = turn.seconds("run", "--output", "OUTPUT", *options, now=same)
    return found | {"accuracy": {way: accuracy(turn.output / way / "results.json") for way in turn.ways}}


def evaluate_classic(turn: Turn) -> Pair:
    sizes = ["--ipc", 1 if turn.small else 10, "--seeds", 1]
    return evaluated(turn, f"random:{REFERENCE}", "--protocol", "classic", *sizes)


def evaluate_quick(turn: Turn) -> Pair:
    count, seeds = (2, 1) if turn.small else (5, 5)
    return evaluated(turn, *names_of_sets(count), "--protocol", "quick", "--seeds", seeds)


def evaluated(turn: Turn, *arguments: object) -> Pair:
    found = turn.seconds("evaluate", *arguments, *tests_of(turn), "--output", "OUTPUT/found.json")
    return found | {"accuracy": {way: accuracy(turn.output / way / "found.json") for way in turn.ways}}


def accuracy(path: Path) -> float:
    return float(np.mean([one["accuracy"] for one in json.loads(path.read_text("utf-8"))["results"]]))


def guided_pool(turn: Turn, precision: tuple[str, ...] = ()) -> Pair:
    """Other images in each turn, so that the means of what should be equal are of several pools."""
    options = ["--images-per-class", 2 if turn.small else 100, "--target", "reference", "--seed", turn.number]
    found = turn.seconds("generate", "OUTPUT", *options, now=precision)
    measured = {way: quality(read_pool(turn.output / way)) for way in turn.ways}
    return found | {what: {way: measured[way][what] for way in turn.ways} for what in measured["now"]}


def quality(pool: Pool) -> dict[str, float]:
    """Error of the targets by the evaluator, and Fréchet distance to the real test images by its features."""
    from guidance import frechet
    from torch import from_numpy

    evaluator, _, real = judge()
    found = score_pool(pool, evaluator, features=True)
    targets = np.array([row["target_difficulty"] for row in pool.rows])
    assert found.features is not None
    distance = frechet(from_numpy(found.features).double(), from_numpy(real).double())
    return {"evaluator's error": float(np.abs(found.difficulties - targets).mean()), "Fréchet distance": distance}


@cache
def judge() -> tuple[Any, Pool, np.ndarray]:
    """The evaluator, the real test images, and its features of them."""
    evaluator, test = load_classifier(embedded.EVALUATOR), read_pool(embedded.TEST)
    features = score_pool(test, evaluator, features=True).features
    assert features is not None
    return evaluator, test, features


def against_plain_loop(turn: Turn) -> Pair:
    """A first ``score`` by both builds, and one image at a time in a script of its own."""
    arguments = ["score", "photographs", "--classifier", "classifier", "--output", "OUTPUT.jsonl"]
    found = turn.seconds(*arguments)
    output, installed = turn.output / "plain.json", turn.builds["now"]
    loop = installed.python(__file__, "--plain-loop", "classifier", "photographs", output, folder=turn.folder)
    plain = np.array(json.loads(output.read_text()))
    pool = read_pool(turn.folder / "photographs", scores=turn.output / "now.jsonl")
    gap = float(np.abs(plain - pool.difficulties).max())
    return found | {"plain loop": loop.seconds, "largest difference": gap}


def plain_loop(classifier: str, pool: str, output: str) -> None:
    from scoring import one_by_one

    Path(output).write_text(json.dumps(one_by_one(read_pool(pool), load_classifier(classifier)).tolist()))


def two_processes(turn: Turn, work: list[object], least: list[object]) -> Pair:
    """One process against two, of one thread each, and both on nearly nothing, which is starting and loading."""
    found: Pair = {}
    counts = (1, 2) if turn.ways[0] == "before" else (2, 1)
    for name, arguments in (("work", work), ("least", least)):
        for count in counts:
            words = [str(one).replace("OUTPUT", str(turn.output / f"{name}-{count}")) for one in arguments]
            words += ["--num-processes", str(count)]
            cost = turn.builds["now"].command(*words, folder=turn.folder, threads=1)
            found[f"{name}, {count}"] = cost.seconds
    return found


def score_shared(turn: Turn) -> Pair:
    options = ["--classifier", "classifier", "--output", "OUTPUT.jsonl"]
    return two_processes(turn, ["score", "photographs", *options], ["score", "few", *options])


def evaluate_shared(turn: Turn) -> Pair:
    """Of 4 sets x 6 seeds against 2 sets x 1 seed: 22 trainings more for one process, 11 for each of two."""
    count, seeds = (4, 1) if turn.small else (4, 6)
    few, options = names_of_sets(2), ["--protocol", "quick", *tests_of(turn), "--output", "OUTPUT.json", "--seeds"]
    work = ["evaluate", *names_of_sets(count), *options, seeds]
    return two_processes(turn, work, ["evaluate", *few, *options, 1])


# -- ratios


def faster(pair: Pair) -> float:
    return pair["before"] / pair["now"]


def than_plain_loop(pair: Pair) -> float:
    return pair["plain loop"] / pair["now"]


def shared(pair: Pair) -> float:
    return (pair["work, 1"] - pair["least, 1"]) / (pair["work, 2"] - pair["least, 2"])


@dataclass(frozen=True)
class Row:
    """What is measured, and the ratio to reach."""

    what: str
    goal: float
    prepare: Callable[[Path, bool], None]
    measure: Callable[[Turn], Pair]
    ratio: Callable[[Pair], float] = faster


def nothing(folder: Path, small: bool) -> None:
    """For a row that needs no inputs."""


ROWS = {
    "run": Row("`run` from start to report", 2.5, nothing, whole_run),
    "evaluate-classic": Row(
        "`evaluate`: ConvNet-3, IPC 10, classic, 10,000 test images", 2.5, reference, evaluate_classic
    ),
    "evaluate-quick": Row("`evaluate`: 5 sets x 5 seeds, quick", 2.5, sets, evaluate_quick),
    "pool": Row("`generate`: 1,000 guided images", 2.5, nothing, guided_pool),
    "pool-float32": Row(
        "the same in float32", 1.3, nothing, partial(guided_pool, precision=("--precision", "float32"))
    ),
    "score-resnet50": Row(
        "`score`: ResNet-50, 3,000 photographs, against a plain loop",
        2.0, partial(photographs, "resnet50", 3000), against_plain_loop, than_plain_loop,
    ),
    "score-lite0": Row(
        "the same with EfficientNet-Lite0",
        2.0, partial(photographs, "lite0", 3000), against_plain_loop, than_plain_loop,
    ),
    "processes-score": Row(
        "`score` in two processes of one thread against one, after loading",
        1.9, partial(photographs, "resnet50", 600), score_shared, shared,
    ),
    "processes-evaluate": Row(
        "`evaluate` in two processes of one thread against one, after loading", 1.9, sets, evaluate_shared, shared
    ),
}  # fmt: skip


def summary(row: Row, pairs: list[Pair]) -> dict[str, Any]:
    ratios = [row.ratio(pair) for pair in pairs]
    medians = {key: median(pair[key] for pair in pairs) for key, value in pairs[0].items() if isinstance(value, float)}
    equal = {
        what: {way: float(np.mean([pair[what][way] for pair in pairs])) for way in value}
        for what, value in pairs[0].items()
        if isinstance(value, dict)
    }
    found = {"what": row.what, "goal": row.goal, "ratio": median(ratios), "range": [min(ratios), max(ratios)]}
    return found | {"medians": medians, "means": equal, "pairs": pairs}


def measure(name: str, builds: Mapping[str, Build], wanted: int, small: bool, known: dict[str, Any]) -> None:
    """Add pairs to a row until there are as many as wanted, each recorded at once."""
    row, pairs = ROWS[name], list(known.get(name, {}).get("pairs", []))
    with tempfile.TemporaryDirectory() as text:
        if len(pairs) < wanted:
            row.prepare(Path(text), small)
        while len(pairs) < wanted:
            output = Path(text, f"turn-{len(pairs)}")
            output.mkdir()
            pairs.append(row.measure(Turn(builds, Path(text), output, small, len(pairs))))
            shutil.rmtree(output)
            known[name] = summary(row, pairs)
            save(known, small)
            print(f"{name}, pair {len(pairs)} of {wanted}: {row.ratio(pairs[-1]):.2f} (goal {row.goal})", flush=True)


def file_of(small: bool) -> Path:
    return ROOT / "runs" / "speed-small.json" if small else RESULTS / "speed.json"


def save(rows: dict[str, Any], small: bool) -> None:
    ordered = {name: rows[name] for name in ROWS if name in rows}
    if small:
        file_of(small).parent.mkdir(exist_ok=True)
        file_of(small).write_text(json.dumps({"rows": ordered}, indent=2))
    else:
        # rows are measured by commands of their own, so that the last one's words would be wrong of the others
        command = f"python benchmarks/speed.py {' '.join(ordered)} --pairs N"
        record("speed", {"command": command, "baseline": BASELINE, "rows": ordered})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--small", action="store_true", help="try each row out on next to nothing")
    parser.add_argument("--fresh", action="store_true", help="forget the pairs that are recorded of these rows")
    parser.add_argument("--plain-loop", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain_loop:
        return plain_loop(*options.plain_loop)
    names = options.rows or list(ROWS)
    if unknown := set(names) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; choose of {', '.join(ROWS)}")
    path = file_of(options.small)
    known = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else {}
    for name in names if options.fresh else []:
        known.pop(name, None)
    with both_builds() as builds:
        for name in names:
            measure(name, builds, options.pairs, options.small, known)


if __name__ == "__main__":
    sys.exit(main())
