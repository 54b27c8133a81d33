"""Reporting: one HTML page of a distillation, its figures, and the commands that make the sets again."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
