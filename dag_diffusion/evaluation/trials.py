"""How well networks trained on a set do on real test images: last epoch, several seeds and networks.

    seed -> initial weights, order of batches, and the draw of every set that is drawn anew

One seed gives every set the same initial weights and, for sets of equal size, the same order of batches, so that the
difference between two sets is the images'.  ``comparisons`` pairs the results by seed.  A GPU trains several networks
at once, see ``stacks``, with the same draws and, but for rounding, the same results as one after another.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn

from dag_diffusion.processes import fail_together, gather, is_main_process, resolve_device, this_process
from dag_diffusion.processor import usual_torch
from dag_diffusion.progress import Progress
from dag_diffusion.seeding import as_seed
from dag_diffusion.turns import Turns

from .augmentations import Normalisation
from .labelled_images import LabelledImages, Labels, as_labels, normalise, relabelled
from .networks import require_trainable, seeded_network
from .protocols import Protocol, as_protocol
from .results import Result
from .soft_labels.views import ViewLabels, require_drawn_alike
from .stacks import most_at_once, train_stack
from .training import correct, share_of_this_process, train

logger = logging.getLogger(__name__)
Source = LabelledImages | Callable[[int], LabelledImages]


@usual_torch()
def evaluate(
    sets: Mapping[str, Source],
    test: LabelledImages,
    *,
    network: str | Sequence[str] = "convnet-3",
    protocol: str | Protocol = "classic",
    seeds: Iterable[int] = (0, 1, 2, 3, 4),
    labels: Labels = "hard",
    track_best: bool = False,
    num_classes: int | None = None,
    normalisation: Normalisation | None = None,
    device: str | torch.device | None = None,
    at_once: int | None = None,
    test_name: str = "",
    known: Iterable[Result] = (),
    on_result: Callable[[Result], None] | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Train each network on each set from scratch, once for each seed, and test it after its last epoch.

    Several processes, as accelerate starts them, divide the trainings among them, and each returns all results.

    Args:
        sets: name to images, or to a function that draws the images of one seed, as a random baseline should:
            ``labelled_images.RandomDraw``.  The field's loaders take the first files by name instead.
        test: images that no set, guide or generator has seen; their class names rule.
        network: one name or several, see ``list_networks``.
        protocol: a name, see ``list_protocols``, or one of your own.
        seeds: one training of each set and network for each.
        labels: ``hard``; ``soft`` to learn the probabilities that come with the images; or ``views`` for those that
            come with views of whole sets.
        track_best: also test while training, up to about a hundred times, and record the best; with 10,000 test
            images that takes longer than the training itself.
        num_classes: logits of the network; by default one a class of ``test``, in the order of its labels.
        normalisation: the same for every set and the test images; by default to [-1, 1].
        device: default: what accelerate finds.
        at_once: trainings of sets with equally many images that are done as one stacked network; None: on a CUDA device
            20, or as many as its memory takes, and 1 elsewhere.  Fewer at a time where memory runs out.
        test_name: what the results call the test images.
        known: results of an earlier run with the same images; those trainings are not repeated, and the others are in
            the same precision unless the protocol says which.
        on_result: called after each new training, in the process that did it, so that nothing is lost when a long
            evaluation is stopped, or at most what was trained at once.
        progress: called in the first process with "trainings", how many all processes have done, and total.

    Returns:
        all sets of the first seed, each on all networks, then all of the second, and so on.

    Raises:
        ValueError: a set has other classes or another image size than ``test``, or no soft labels where they are
            asked for, or there is no such network, protocol or device, or ``at_once`` is below 1.
        FloatingPointError: a training diverged.
        FailedElsewhereError: another process failed, which raises why.
    """
    if not isinstance(sets, Mapping):
        raise ValueError(
            f"sets are a {type(sets).__name__}; give {{name: images}}, with those of load_labelled_images or a function"
        )
    for given in (test, *sets.values()):
        if not isinstance(given, LabelledImages) and (given is test or not callable(given)):
            raise ValueError(
                f"evaluate trains and tests on images in memory, and not on a {type(given).__name__} as it is; give "
                "load_labelled_images(pool, size=28, channels=1) as test and by name in sets"
            )
    networks = [network] if isinstance(network, str) else list(network)
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds is {seeds!r}; give one for each training in a list, such as [0], or range(5)")
    seeds = [as_seed(seed) for seed in seeds]
    known, normalisation = list(known), normalisation or Normalisation()
    require_at_once(at_once)
    with fail_together():
        device = resolve_device(device)
    protocol = as_protocol(protocol)
    protocol = settled(protocol, {result.precision for result in known if result.protocol == protocol.name}, device)
    conditions = _Conditions(
        test=test,
        protocol=protocol,
        labels=as_labels(labels),
        track_best=track_best,
        num_classes=_logits(num_classes, test),
        normalisation=normalisation,
        device=device,
        test_name=test_name,
    )
    with fail_together():
        # a set that does not fit is refused now, not after hours of training the others
        ready = {
            name: source if callable(source) else conditions.prepare(source, name) for name, source in sets.items()
        }
        numbers = {len(source) for source in ready.values() if isinstance(source, Sized)}
        for name in networks:
            require_trainable(name, numbers, protocol.batch_size, **conditions.shape)
    earlier = {
        _Training(result.set, result.network, result.seed): result
        for result in known
        if (result.protocol, result.precision) == (protocol.name, protocol.precision)
        and (result.labels, result.test) == (labels, test_name)
        and (result.best is not None or not track_best)
    }
    plan = [_Training(name, architecture, seed) for seed in seeds for name in ready for architecture in networks]
    missing = [training for training in plan if training not in earlier]
    together = conditions.together(missing, at_once)
    turns = Turns("trainings", len(plan), progress)
    turns.report(len(plan) - len(missing) if is_main_process() else 0)
    done: dict[_Training, Result] = {}

    def keep(training: _Training, result: Result) -> None:
        done[training] = result
        if on_result is not None:
            on_result(result)
        turns.report(1)

    last, untested = conditions.tested_together(together), dict[_Training, _Learnt]()
    with turns.together():
        for stack in turns.take(together, 1):
            if stack[0] in last:
                untested[stack[0]] = conditions.learn(ready, stack[0])
                continue
            for training, result in conditions.trials(ready, stack):
                keep(training, result)
    if last:
        found = conditions.test_together(last, untested)
        with turns.together():
            for training, result in found.items():
                keep(training, result)
    results = earlier | {training: result for part in gather(done) for training, result in part.items()}
    return [results[training] for training in plan]


def require_at_once(at_once: int | None) -> None:
    """ValueError for a number of trainings at once that there cannot be."""
    if at_once is not None and at_once < 1:
        raise ValueError(
            f"at_once is {at_once}, but at least 1 training is done at once; leave it out for what suits the device"
        )


class _Training(NamedTuple):
    """One training of an evaluation."""

    set: str
    network: str
    seed: int


def settled(protocol: Protocol, before: Collection[str], device: str | torch.device) -> Protocol:
    """The protocol in one precision for all trainings that compare.

    Args:
        before: precisions of earlier trainings; ``auto`` goes on in theirs, if they agree, and is else what suits the
            devices of all processes.
    """
    if protocol.precision == "auto" and len(before) == 1:
        return replace(protocol, precision=next(iter(before)))
    found = set(gather(protocol.on(device).precision))
    return replace(protocol, precision=found.pop() if len(found) == 1 else "float32")


class _Shape(TypedDict):
    """What a network has to fit."""

    channels: int
    size: tuple[int, int]
    num_classes: int


class _Lesson(NamedTuple):
    """What one training learns from; ``draw`` is the seed with which the images were drawn, if they were."""

    training: _Training
    given: LabelledImages
    draw: int | None
    epochs: int


class _Learnt(NamedTuple):
    """A network that is still to be tested, after so many seconds of training."""

    lesson: _Lesson
    network: nn.Module
    seconds: float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Conditions:
    """All that the trainings of one evaluation share."""

    test: LabelledImages
    protocol: Protocol
    labels: Labels
    track_best: bool
    num_classes: int
    normalisation: Normalisation
    device: str | torch.device
    test_name: str
    drawn: dict[tuple[str, int], LabelledImages] = field(default_factory=dict)  # the last draw, by set and seed

    @property
    def shape(self) -> _Shape:
        height, width, channels = self.test.images.shape[1:]
        return {"channels": channels, "size": (height, width), "num_classes": self.num_classes}

    def prepare(self, given: LabelledImages, name: str) -> LabelledImages:
        ours, wanted = tuple(given.images.shape[1:]), tuple(self.test.images.shape[1:])
        if ours != wanted:
            raise ValueError(
                f"images of {name} are {ours}, but those of the test set {wanted} (height, width, channels); "
                "load both with one size and channels"
            )
        if self.labels == "soft" and given.probabilities is None:
            raise ValueError(
                f"{name} has no soft labels to learn from; make them with a teacher first, or evaluate with labels hard"
            )
        if self.labels == "views":
            if given.views is None:
                raise ValueError(
                    f"{name} has no labels per view, which whole sets have and random draws of them have not; label "
                    "each set with a teacher, or evaluate with labels soft or hard"
                )
            require_drawn_alike(given.views, len(given), self.protocol)
        return relabelled(given, self.test.class_names, name)

    def together(self, trainings: Sequence[_Training], at_once: int | None) -> list[Sequence[_Training]]:
        """The trainings, divided into those of one network that are done at once, the same way in all processes."""
        names = list(dict.fromkeys(training.network for training in trainings))
        with fail_together():
            own = [self._most_at_once(name, at_once) for name in names]
        numbers = gather(own)
        agreed = [min(numbers_of_one) for numbers_of_one in zip(*numbers, strict=True)]
        if all(number == 1 for number in agreed):
            return [[training] for training in trainings]  # seed by seed, so that whole comparisons come first
        found: list[Sequence[_Training]] = []
        for name, most in zip(names, agreed, strict=True):
            share = [training for training in trainings if training.network == name]
            most = min(most, -(-len(share) // len(numbers)))  # so that each process has one
            found += [share[start : start + most] for start in range(0, len(share), most)]
        return found

    def _most_at_once(self, network: str, asked: int | None) -> int:
        if asked == 1 or (asked is None and torch.device(self.device).type != "cuda"):
            return 1
        shape = self.shape["channels"], *self.shape["size"]
        images = torch.zeros(max(2, self.protocol.batch_size), *shape, device=self.device)
        return most_at_once(
            seeded_network(network, seed=0, **self.shape).to(self.device), images, asked, self.protocol.precision
        )

    def trials(self, sets: Mapping[str, Source], trainings: Sequence[_Training]) -> Iterator[tuple[_Training, Result]]:
        """Train and test, at once where sets have equally many images."""
        alike: dict[tuple[int, int], list[_Lesson]] = {}
        for lesson in (self._lesson(sets, training) for training in trainings):
            alike.setdefault((len(lesson.given), lesson.epochs), []).append(lesson)
        for lessons in alike.values():
            for lesson, result in self._learnt(lessons):
                yield lesson.training, result

    def _learnt(self, lessons: list[_Lesson]) -> Iterator[tuple[_Lesson, Result]]:
        """Results of one stack, or of its halves where memory is short or one diverges, which then fails alone."""
        results = [self.trial(lessons[0])] if len(lessons) == 1 else self.stacked(lessons)
        if results is not None:
            yield from zip(lessons, results, strict=True)
            return
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        half = len(lessons) // 2
        yield from self._learnt(lessons[:half])
        yield from self._learnt(lessons[half:])

    def trial(self, lesson: _Lesson) -> Result:
        """Train and test once."""
        started, seen = time.perf_counter(), list[float]()
        trained = self._train(
            lesson, (lambda epoch, learner: seen.append(self._test(learner))) if self.track_best else None
        )
        # the last look comes after the last epoch
        return self._result(lesson, seen or [self._test(trained)], time.perf_counter() - started)

    def learn(self, sets: Mapping[str, Source], training: _Training) -> _Learnt:
        """Train once, for ``test_together``."""
        started, lesson = time.perf_counter(), self._lesson(sets, training)
        return _Learnt(lesson, self._train(lesson), time.perf_counter() - started)

    def _train(self, lesson: _Lesson, track_best: Callable[[int, nn.Module], None] | None = None) -> nn.Module:
        images, targets = self._images_and_targets(lesson)
        return train(
            self._seeded(lesson.training),
            images,
            targets,
            self.protocol.for_network(lesson.training.network),
            seed=lesson.training.seed,
            epochs=lesson.epochs,
            normalisation=self.normalisation,
            track_best=track_best,
        )

    def tested_together(self, together: Sequence[Sequence[_Training]]) -> list[_Training]:
        """The last trainings, where several CPU processes share and some would have none: these help to test then.

        A quick test on 10,000 images takes as long as the training; a GPU is done before weights are handed over.
        """
        singly = (
            torch.device(self.device).type == "cpu" and not self.track_best and all(len(one) == 1 for one in together)
        )
        if not all(gather(singly)):
            return []
        left = len(together) % this_process().num_processes
        return [training for (training,) in together[len(together) - left :]]

    def test_together(
        self, last: Sequence[_Training], untested: Mapping[_Training, _Learnt]
    ) -> dict[_Training, Result]:
        """Results of those of the last that this process has learnt; all are tested by each on its share of images."""
        learnt = gather({training: own.network.state_dict() for training, own in untested.items()})
        weights = {training: one for of_process in learnt for training, one in of_process.items()}
        hits, seconds, share = dict[_Training, int](), dict[_Training, float](), share_of_this_process(len(self.test))
        with fail_together():
            for training in last:
                started, network = time.perf_counter(), self._seeded(training)
                network.load_state_dict(weights[training])
                hits[training] = self._correct(network, share)
                seconds[training] = time.perf_counter() - started
        shares = gather(hits)
        return {
            training: self._result(
                own.lesson,
                [sum(share[training] for share in shares) / len(self.test)],
                own.seconds + seconds[training],
            )
            for training, own in untested.items()
        }

    def stacked(self, lessons: Sequence[_Lesson]) -> list[Result] | None:
        """Train at once on as many images each, and test; None where memory is too short or one training diverged."""
        started, looks = time.perf_counter(), [list[float]() for _ in lessons]

        def look(epoch: int, place: int, learner: nn.Module) -> None:
            looks[place].append(self._test(learner))

        try:
            images, targets = zip(*map(self._images_and_targets, lessons), strict=True)
            trained = train_stack(
                [self._seeded(lesson.training) for lesson in lessons],
                torch.stack(images),
                targets if self.labels == "views" else torch.stack(targets),
                self.protocol.for_network(lessons[0].training.network),
                seeds=[lesson.training.seed for lesson in lessons],
                epochs=lessons[0].epochs,
                normalisation=self.normalisation,
                track_best=look if self.track_best else None,
            )
        except (torch.OutOfMemoryError, FloatingPointError) as error:
            logger.info("%d trainings at once failed (%s); halves of them follow", len(lessons), error)
            return None
        seen = looks if self.track_best else [[self._test(network)] for network in trained]
        seconds = (time.perf_counter() - started) / len(lessons)
        return [self._result(lesson, own, seconds) for lesson, own in zip(lessons, seen, strict=True)]

    def _result(self, lesson: _Lesson, seen: Sequence[float], seconds: float) -> Result:
        return Result(
            set=lesson.training.set,
            network=lesson.training.network,
            protocol=self.protocol.name,
            seed=lesson.training.seed,
            images_per_class=lesson.given.per_class,
            accuracy=seen[-1],
            seconds=seconds,
            draw=lesson.draw,
            labels=self.labels,
            test=self.test_name,
            epochs=lesson.epochs,
            best=max(seen) if self.track_best else None,
            precision=self.protocol.precision,
        )

    def _lesson(self, sets: Mapping[str, Source], training: _Training) -> _Lesson:
        given, draw = self._images(sets, training)
        return _Lesson(training, given, draw, self.protocol.epochs_for(given.per_class))

    def _images_and_targets(self, lesson: _Lesson) -> tuple[Tensor, Any]:
        images = normalise(lesson.given.images, self.normalisation).to(self.device)
        if self.labels == "views":
            views = cast(ViewLabels, lesson.given.views)  # which ``prepare`` has asked for
            return images[views.rows.to(self.device)], replace(views, outputs=self.num_classes)
        return images, self._targets(lesson.given).to(self.device)

    def _images(self, sets: Mapping[str, Source], training: _Training) -> tuple[LabelledImages, int | None]:
        """The images of a training, and the seed with which they were drawn, if they were."""
        source, key = sets[training.set], (training.set, training.seed)
        if not callable(source):
            return source, None
        if key not in self.drawn:
            self.drawn.clear()
            self.drawn[key] = self.prepare(source(training.seed), training.set)
        return self.drawn[key], training.seed

    def _seeded(self, training: _Training) -> nn.Module:
        return seeded_network(training.network, seed=training.seed, **self.shape)

    def _targets(self, given: LabelledImages) -> Tensor:
        if self.labels == "hard":
            return self._logit_of(given.labels)
        soft = torch.zeros(len(given), self.num_classes)  # a network may have more logits than there are classes
        soft[:, : len(given.class_names)] = torch.as_tensor(given.probabilities).float()
        return soft

    def _logit_of(self, labels: np.ndarray | Tensor) -> Tensor:
        """The places of labels among all: a network has a logit for each class, whatever number the class has."""
        return torch.as_tensor(np.searchsorted(sorted(self.test.class_names), np.asarray(labels)))

    def _test(self, network: nn.Module) -> float:
        return self._correct(network, slice(None)) / len(self.test)

    def _correct(self, network: nn.Module, share: slice) -> int:
        images, labels = self.test.images[share], self._logit_of(self.test.labels[share])
        return correct(network, images, labels, precision=self.protocol.precision, normalisation=self.normalisation)


def _logits(num_classes: int | None, test: LabelledImages) -> int:
    needed = len(test.class_names)
    if num_classes is not None and num_classes < needed:
        raise ValueError(
            f"num_classes is {num_classes}, but the test set has {needed} classes; "
            f"give at least {needed}, or leave it out"
        )
    return num_classes or needed
