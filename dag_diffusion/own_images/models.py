"""The models of a folder's images, and a weak one: those that are given, and those that are trained here.

training images -> all but a tenth -> guide, of one family         the tenth -> difficulties that it has not seen
                -> evaluator, of another family                    all -> generator, which sees no classifier
                                                                       -> a weak one, which it guides away from
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dag_diffusion.classifiers.image_classifiers import class_names_of
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.splitting import split_pool
from dag_diffusion.distillation.config import DistillationConfig, DistillationInputs
from dag_diffusion.distillation.pools import autoguidance_of
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.loading import load_guide, load_pipeline
from dag_diffusion.processes import gather
from dag_diffusion.sampling.score_cache import score_and_record
from dag_diffusion.training.classifiers import ClassifierConfig, train_classifier
from dag_diffusion.training.classifiers.classifier import DIFFICULTIES, RECORD
from dag_diffusion.training.generators import GeneratorConfig, train_generator

from .config import OF_A_RUN, FolderConfig
from .durations import Clock
from .plain_images import PlainImages
from .requirements import several_images

GUIDE, EVALUATOR, GENERATOR, WEAK = "guide", "evaluator", "generator", "weak"  # folders of the work, and stages
CALIBRATED_WITH = 0.1  # of the training images, which the guide does not see otherwise
UNSEEN = "difficulties.jsonl"  # of those images


@dataclass(frozen=True, kw_only=True)
class Models:
    """Where the models are.

    Attributes:
        pipeline, classifier, evaluator: folders or Hub ids.
        weak: likewise, of the pipeline whose denoiser is the weak one; None: that of the pipeline, if it has one.
        reference: file of difficulties that the guide measured on images it has not seen; None: there is none.
        records: of those that were trained here, by stage; JSON values.
    """

    pipeline: str
    classifier: str
    evaluator: str
    weak: str | None
    reference: str | None = None
    records: Mapping[str, Any] = field(default_factory=dict)


def require_classes(config: FolderConfig, images: PlainImages) -> None:
    """Check that the models that are given know the classes, before the others are trained.

    Raises:
        ValueError: one cannot be loaded, or lacks a class; or there is no weak denoiser where one is needed.
    """
    names = images.class_names
    if config.pipeline is not None:
        loaded = load_pipeline(config.pipeline, weak=config.weak, device="cpu", trust_bin=config.trust_bin)
        autoguidance_of(loaded, config.autoguidance_scale)
        match_classes(names, loaded.class_names, f"the pipeline {config.pipeline}")
    for owner, name in (("classifier", config.classifier), ("evaluator", config.evaluator)):
        if name is not None:
            match_classes(names, class_names_of(load_guide(name, device="cpu")), f"the {owner} {name}", trainable=True)


def number_learnt_from(images: int) -> int:
    """Of so many training images, those that a guide or evaluator learns from; the others calibrate it."""
    return round((1 - CALIBRATED_WITH) * images)


def classifier_config(role: str, config: FolderConfig, steps: int | None) -> ClassifierConfig:
    """How guide or evaluator is trained; the evaluator by another seed, so that it shares no chance with the guide."""
    guide = role == GUIDE
    return ClassifierConfig(
        role=role,
        steps=steps,
        folds=config.folds if guide else 0,
        never_mirror=config.never_mirror,
        balance=config.balance,
        seed=config.seed if guide else config.seed + 1,
    )


def generator_config(images: PlainImages, config: FolderConfig, steps: int | None) -> GeneratorConfig:
    """How the generator is trained; its VAE, if that is trained, for a share of the steps."""
    return GeneratorConfig(
        size=images.size[0],
        channels=images.channels if config.vae is None and config.base is None else None,  # else those that it encodes
        steps=steps,
        vae=config.vae,
        flip=not config.never_mirror,
        seed=config.seed,
    )


def weak_config(images: PlainImages, config: FolderConfig, steps: int | None, generator: Path) -> GeneratorConfig:
    """How the weak denoiser of a generator's folder is trained."""
    weaker = generator_config(images, config, config.generator_steps).weaker(generator)
    return weaker if steps is None else replace(weaker, steps=steps)


def trained_models(
    images: PlainImages, work: Path, config: FolderConfig, steps: Mapping[str, int], device: str, clock: Clock
) -> Models:
    """Train what is not given, or go on where an earlier run has stopped.

    Every one of several processes has to call it.

    Args:
        steps: training steps by stage; those that it lacks follow from the images, but for the weak denoiser, which is
            not trained without.
    """
    places = {name: work / name for name in (GUIDE, EVALUATOR, GENERATOR, WEAK)}
    seen, unseen = images.train, None
    if config.classifier is None:
        with several_images(config):
            seen, unseen = split_pool(images.train, CALIBRATED_WITH, seed=config.seed)
    for role, given, train, holdout in (
        (GUIDE, config.classifier, seen, unseen),
        (EVALUATOR, config.evaluator, images.train, None),
    ):
        if given is None and not _is_finished(places[role]):
            train_classifier(
                train,
                places[role],
                classifier_config(role, config, steps.get(role)),
                holdout=holdout,
                test=images.test,
                device=device,
                progress=clock.within(role),
            )
    if config.pipeline is None and not _is_finished(places[GENERATOR]):
        generator = generator_config(images, config, steps.get(GENERATOR))
        train_generator(
            images.train,
            places[GENERATOR],
            generator,
            fine_tuning=config.fine_tuning,
            device=device,
            progress=clock.within(GENERATOR),
        )
    with_weak = config.trains_weak and WEAK in steps  # else it was begun before one was trained along
    if with_weak and not _is_finished(places[WEAK]):
        train_generator(
            images.train,
            places[WEAK],
            weak_config(images, config, steps[WEAK], places[GENERATOR]),
            device=device,
            progress=clock.within(WEAK),
        )
    records = {
        role: read_json_object(places[role] / RECORD) for role in (GUIDE, EVALUATOR) if (places[role] / RECORD).exists()
    }
    models = replace(models_in(work, config, with_weak=with_weak), records=records)
    if unseen is None:
        return models
    return replace(models, reference=_reference(places[GUIDE], unseen, work, config, device, clock))


def models_in(work: Path, config: FolderConfig, *, with_weak: bool) -> Models:
    """The models that are given, and those that are trained into ``work``."""
    return Models(
        pipeline=config.pipeline or str(work / GENERATOR),
        classifier=config.classifier or str(work / GUIDE),
        evaluator=config.evaluator or str(work / EVALUATOR),
        weak=str(work / WEAK) if with_weak else config.weak,
    )


def run_config(images: PlainImages, config: FolderConfig, models: Models) -> DistillationConfig:
    """The distillation of run that is made of the images with these models."""
    inputs = DistillationInputs(
        pipeline=models.pipeline,
        classifier=models.classifier,
        evaluator=models.evaluator,
        weak=models.weak,
        reference=models.reference,
        train=str(images.train.path),
        test=str(images.test.path),
        channels=images.channels,
        size=config.size if config.pipeline or config.base else None,
        fit=config.fit,
        target=config.target,
        among=config.among,
        precision=config.precision,
        trust_bin=config.trust_bin,
    )
    return DistillationConfig(**{name: getattr(config, name) for name in OF_A_RUN}, herding=True, inputs=inputs)


def _is_finished(place: Path) -> bool:
    """Whether an earlier run has finished it, as the first of several processes sees it."""
    return gather(place.is_dir())[0]


def _reference(guide: Path, unseen: Pool, work: Path, config: FolderConfig, device: str, clock: Clock) -> str:
    """The file of difficulties out of sample: by folds of all images that the guide sees, else of those it does not."""
    if config.folds:
        return str(guide / DIFFICULTIES)
    scorers = {str(guide): load_guide(guide, device=device)}
    score_and_record(unseen, scorers, work / UNSEEN, among=config.among, progress=clock.within("reference"))
    return str(work / UNSEEN)


def models_table(models: Models) -> list[Table]:
    """What the classifiers that were trained here reach on the test images, which never trained them."""
    rows = [[role, *_tested(record)] for role, record in models.records.items()]
    columns = ["classifier", "model", "test accuracy, %", "calibration error", "temperature"]
    note = "The guide scores and steers; the evaluator, of another family, only measures."
    return [Table("Classifiers", columns, rows, note=note)] if rows else []


def _tested(record: Mapping[str, Any]) -> list[Any]:
    test, calibration = record.get("test") or {}, record.get("calibration") or {}
    before, after = calibration.get("expected_calibration_error") or (None, None)
    kept = bool(calibration.get("kept"))
    error = "" if before is None else f"{before:.3f} to {after:.3f}" if kept else f"{before:.3f}"
    accuracy = test.get("accuracy")
    return [
        record.get("model"),
        "" if accuracy is None else f"{100 * accuracy:.1f}",
        error,
        f"{calibration['temperature']:.2f}" if kept else "1",
    ]
