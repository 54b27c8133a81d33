"""The two pools of a distillation: one unguided, one drawn to modes and, where a target is given, steered to it."""

from dataclasses import replace
from pathlib import Path

from dag_diffusion.data.pools import Pool
from dag_diffusion.generation.filling import fill_pool
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.plan import PoolConfig, networks_precision
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.sampling.targets import TargetDistribution

from .config import DistillationConfig
from .setup import DistillationSetup

AUTOGUIDANCE = 1.5  # scale of pools where there is a weak denoiser and nothing else is said


def fill_pools(
    setup: DistillationSetup,
    output: Path,
    *,
    config: DistillationConfig,
    modes: Modes,
    target: TargetDistribution | None,
    batch_size: int,
    progress: Progress,
) -> dict[str, Pool]:
    """Draw both pools into ``output``, going on where a run was interrupted.

    Args:
        modes: clusters that images of the guided pool are drawn to.
        target: difficulties that they are steered to; None: they are drawn to modes alone.
        progress: called with stage, done and total.
    """
    everything = setup.class_names == setup.pipeline.class_names
    plain = unguided_pool(setup.pipeline, config, None if everything else list(setup.class_names))
    guided = replace(plain, target=target, modes=modes, mode_guidance=ModeGuidance(scale=config.mode_scale))
    return {
        name: fill_pool(
            setup.pipeline,
            pool_folder(output, name),
            pool,
            batch_size=batch_size,
            resume=True,
            source=setup.pipeline_name,
            progress=renamed(progress, f"pool, {name}"),
        )
        for name, pool in (("unguided", plain), ("guided", guided))
    }


def unguided_pool(
    pipeline: DifficultyGuidedPipeline, config: DistillationConfig, labels: list[int] | None
) -> PoolConfig:
    """How the unguided pool is drawn, and the guided one but for its guidance.

    Args:
        labels: of the classes; None: all of the pipeline's.
    """
    return PoolConfig(
        images_per_class=config.ipc * config.pool_factor,
        labels=labels,
        seed=config.seed,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        autoguidance_scale=autoguidance_of(pipeline, config.autoguidance_scale),
        precision=networks_precision(config.inputs.precision),
        difficulty_guidance=GuidanceConfig(among=config.inputs.among),
    )


def pool_folder(output: Path, name: str) -> Path:
    """Where a distillation has one of its pools, ``unguided`` or ``guided``."""
    return output / f"pool-{name}"


def autoguidance_of(pipeline: DifficultyGuidedPipeline, scale: float | None) -> float:
    """Scale of autoguidance that pools are drawn with, see ``DistillationConfig``; 1 is off.

    Raises:
        ValueError: it is on, and the pipeline has no weak denoiser.
    """
    if pipeline.weak_transformer is None:
        require_weak(scale)
        return 1.0
    own = pipeline.config.get("default_autoguidance_scale")
    return next(one for one in (scale, own, AUTOGUIDANCE) if one is not None)


def require_weak(scale: float | None) -> None:
    """Refuse autoguidance where there is no weak denoiser; ValueError."""
    if scale is not None and scale > 1:
        raise ValueError(
            f"autoguidance_scale is {scale:g}, and the pipeline has no weak denoiser; give weak='FOLDER', a pipeline "
            "trained smaller or shorter with the same VAE on the same images, or leave autoguidance_scale out"
        )
