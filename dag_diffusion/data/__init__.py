"""Images and labels on disk: pools, their rows, tables, distilled sets, class names and folders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
