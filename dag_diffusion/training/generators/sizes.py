"""Which sizes of images have latents that a denoiser can cut into patches.

side of the latents = size / factor, in patches of 2 from a side of 8 on
factor of an autoencoder that is trained here: 4, and 8 from 128 pixels on
"""

SMALLEST, LARGE = 16, 128  # pixels that an autoencoder is trained on, and from which it halves them once more


def own_factor(size: int) -> int:
    """That of an autoencoder that is trained here."""
    return 8 if size >= LARGE else 4


def patch_of(side: int) -> int:
    """Side of the patches that latents of a side are cut into."""
    return 2 if side >= 8 else 1


def is_suitable(size: int, factor: int | None = None) -> bool:
    """Whether images of a size in pixels can be learnt.

    Args:
        factor: of the autoencoder; None: of one that is trained here.
    """
    return size >= (factor or SMALLEST) and size % _step(size, factor) == 0


def require_suitable(size: int, factor: int | None = None) -> None:
    """Check a size, see ``is_suitable``; ValueError with the nearest ones if it is not suitable."""
    if is_suitable(size, factor):
        return
    step = _step(size, factor)
    near = sorted({max(factor or SMALLEST, size // step * step + more) for more in (0, step)})
    raise ValueError(
        f"images of {size} pixels have latents that cannot be cut into patches; give a size that is a multiple of "
        f"{step}, such as {' or '.join(map(str, near))}"
    )


def require_same_latents(base: str, own: tuple[int, int], given: tuple[int, int]) -> None:
    """Check that a denoiser can take the latents of a VAE that is named for it; ValueError if not.

    Args:
        base: the denoiser's pipeline, to be named.
        own, given: channels of the latents, and how many times wider images are, of its own VAE and of the other.
    """
    if own != given:
        raise ValueError(
            f"{base} denoises latents of {own[0]} channels at 1/{own[1]} of the size, and this VAE makes {given[0]} at "
            f"1/{given[1]}; leave vae out to keep the pipeline's own"
        )


def _step(size: int, factor: int | None) -> int:
    """What a size near this one has to be a multiple of."""
    return 2 * own_factor(size) if factor is None else factor * patch_of(size // factor)
