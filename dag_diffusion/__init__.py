"""Difficulty-aware generative dataset distillation: guidance (DAG) and sampling (DGS) by ``d(x, y) = 1 - p(y | x)``.

Names are imported when first used, so that ``import dag_diffusion`` costs nothing; ``__init__.pyi`` lists them.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
