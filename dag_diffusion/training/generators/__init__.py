"""Training of a generator: its autoencoder, the latents of all images, and the denoiser."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
