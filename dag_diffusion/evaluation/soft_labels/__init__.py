"""Soft labels: what a teacher says of each image of a set, or of each changed view of it, kept beside the images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
