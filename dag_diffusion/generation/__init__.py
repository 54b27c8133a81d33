"""Generation: fill a pool with images by any number of processes; find the modes and train the probe that it uses."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
