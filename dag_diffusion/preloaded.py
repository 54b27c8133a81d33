"""What commands of several processes import, once for all workers, in the server that these are forked from."""

from importlib import import_module

from .memory import libraries_kept

PRELOADED = [  # nothing that starts threads, which a fork would lose
    "dag_diffusion.evaluation.runs", "dag_diffusion.generation.filling",
    "dag_diffusion.generation.preparing.mode_search", "dag_diffusion.generation.preparing.probe_training",
    "dag_diffusion.loading", "dag_diffusion.pipelines.difficulty_guided", "dag_diffusion.sampling.score_cache",
]  # fmt: skip

with libraries_kept():
    for name in PRELOADED:
        import_module(name)
