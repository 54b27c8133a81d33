"""Difficulty-aware generative dataset distillation: guidance (DAG) and sampling (DGS) by ``d(x, y) = 1 - p(y | x)``.

Names are imported when first used, so that ``import dag_diffusion`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_HOME = {
    "DifficultyGuidedPipeline": ".pipelines.difficulty_guided",
    "DifficultyGuidedPipelineOutput": ".pipelines.difficulty_guided",
    "GuidanceConfig": ".guidance",
    "PoolConfig": ".plans",
    "SelectionRule": ".selection",
    "TargetDistribution": ".targets",
    "embedded": "",
    "fill_pool": ".generation",
    "load_classifier": ".classifiers",
    "pull": ".hub_pull",
    "push": ".hub",
    "read_pool": ".pools",
    "save_target_png": ".reporting",
    "score_and_record": ".score_cache",
    "score_pool": ".scoring",
    "select": ".selection",
    "subsample": ".subsampling",
    "write_distilled_set": ".distilled_sets",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dag_diffusion' has no attribute {name!r}; it has {', '.join(__all__)}")
    return (
        import_module(f".{name}", __name__) if not _HOME[name] else getattr(import_module(_HOME[name], __name__), name)
    )


def __dir__() -> list[str]:
    return __all__
