"""Evaluation: train classifiers on sets, test them on real images, compare in pairs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
