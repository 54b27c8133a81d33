"""Difficulty-aware generative dataset distillation: guidance (DAG) and sampling (DGS) by ``d(x, y) = 1 - p(y | x)``.

    guidance/guided_step.py        the guided step of the denoising loop
    sampling/rules/paper_rule.py   the paper's rule of selection
    generation/filling.py          pools, and where a killed run resumes
    reporting/figures.py           what every figure is drawn with
    pipelines/                     at the repository's root; installed as ``dag_diffusion.pipelines``

Names are imported when first used, so that ``import dag_diffusion`` costs nothing; ``__init__.pyi`` lists them.
"""

from typing import Any

import lazy_loader

__version__ = "0.1.0"

_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dag_diffusion' has no attribute {name!r}; it has {', '.join(__all__)}")
    return _import_name(name)
