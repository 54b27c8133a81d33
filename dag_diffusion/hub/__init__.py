"""Hub: share pools, sets and pipelines on the Hugging Face Hub, and fetch them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
