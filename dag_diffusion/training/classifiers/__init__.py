"""Guides and evaluators from images of one's own: backbones, their training and calibration, and folds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
