"""Classifiers: guides and evaluators, how each wants its images, and whether its weights are whole."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
