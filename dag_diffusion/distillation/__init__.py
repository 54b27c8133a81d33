"""A distillation, the experiment of ``run``: pools, sets chosen from them, classifiers trained on each, a report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
