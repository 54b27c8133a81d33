"""Difficulty-guided sampling (DGS): score a pool, say which difficulties are wanted, select IPC images per class."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
