"""Guidance: what one denoising step does to reach a target difficulty, or a mode.  Tensors only: no files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
