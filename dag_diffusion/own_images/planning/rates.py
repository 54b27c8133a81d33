"""How fast each stage was where it was measured, so that a plan can say how long it may take, and from which figure.

    seconds = work / rate        rate of the same network alone: what was not measured is not guessed

The figures are those of ``benchmarks/results``, which a test compares them with.
"""

from dataclasses import dataclass

CPU, GPU = "2 cores of an AMD EPYC", "one H100"
DRAWN_BY_DIT_XL = {1: 0.561, 8: 4.828, 32: 12.95, 64: 13.58}  # images per second by batch size, bfloat16, 50 steps
DRAWN_IN_FLOAT32 = 1.725  # in batches of 32
STEERED_BY_DIT_XL = 2.511  # the decoder at every guided step, in batches of 32
PEAK_GIB_OF_DIT_XL = {1: 1.84, 8: 2.69, 32: 5.66, 64: 11.2}
PEAK_GIB_STEERED = 26.8
DRAWN_BY_SMALL = 64.8  # the 8M-weight DiT on 8 x 8 latents, 12 steps, steered
LEARNT_BY_SMALL = 209.5  # the same in training, images per second, float32
LEARNT_BY_VAE = 82.7  # the VAE that is trained before it, at 32 px in colour
LEARNT_BY = {"guide": 388.0, "evaluator": 302.1, "weak": 858.2}  # the other networks, at 32 px in colour, float32
CONVNET_TRAINING = 6.67  # seconds of convnet-3 by the quick protocol on 100 images at 32 px, 10,000 tested
THIRD_PARTY_TRAINING = 360.0  # seconds of resnet-ap-10 by IDC's protocol on 100 images at 256 px, on an RTX 3090
STEPS_OF_DIT_XL, STEPS_OF_SMALL = 50, 12


@dataclass(frozen=True)
class Rate:
    """Seconds that a stage takes on one device, and where that is from.

    Attributes:
        seconds: None where nothing was measured.
        source: the file of results, and what was measured.
    """

    seconds: float | None
    source: str


UNMEASURED = Rate(None, "not measured")


def drawing_by_dit_xl(images: int, steps: int, batch_size: int, *, precision: str | None, steered: bool) -> Rate:
    """DiT-XL/2 at 256 px with classifier-free guidance on a GPU."""
    measured = max((size for size in DRAWN_BY_DIT_XL if size <= batch_size), default=1)
    each, told = DRAWN_BY_DIT_XL[measured], f"batches of {measured}"
    if precision not in ("bfloat16", "float16"):
        each, told = min(DRAWN_IN_FLOAT32, each), "float32"
    if steered:
        each, told = min(STEERED_BY_DIT_XL, each), f"{told}, steered through the decoder"
    return Rate(images / each * steps / STEPS_OF_DIT_XL, f"dit-xl.json: {each:.1f} images/s, {told}")


def drawing_by_small(images: int, steps: int, size: int) -> Rate:
    """The DiT that is trained unless another is named, on a CPU; its tokens grow with the pixels."""
    seconds = images / DRAWN_BY_SMALL * steps / STEPS_OF_SMALL * _pixels(size)
    return Rate(seconds, f"generation-networks.json: {DRAWN_BY_SMALL:g} images/s at 32 px")


def learning_of_generator(images: int, vae_images: int, size: int) -> Rate:
    """The same in training, and its autoencoder before it; ``images`` in all steps together, 0 of one that is given."""
    seconds = (images / LEARNT_BY_SMALL + vae_images / LEARNT_BY_VAE) * _pixels(size)
    told = f"training-speed.json: {LEARNT_BY_SMALL:g} images/s of the DiT"
    return Rate(seconds, told + f", autoencoders.json: {LEARNT_BY_VAE:g} of the autoencoder" * (vae_images > 0))


def learning(stage: str, images: int, size: int) -> Rate:
    """Guide, evaluator or weak denoiser, ``images`` in all steps together."""
    each = LEARNT_BY[stage]
    return Rate(images / each * _pixels(size), f"clipart-ddim.json: {each:,.0f} images/s at 32 px")


def training_on_set(network: str, protocol: str, passes: int, size: int, *, gpu: bool) -> Rate:
    """One training of a network on a set, ``passes`` images in all epochs together."""
    if network == "convnet-3" and protocol == "quick" and not gpu:
        seconds = CONVNET_TRAINING * passes / 2000 * _pixels(size)
        return Rate(seconds, f"speed.json: {CONVNET_TRAINING:g} s a training of 2,000 passes at 32 px")
    if network == "resnet-ap-10" and protocol == "hard-label" and gpu:
        seconds = THIRD_PARTY_TRAINING * passes / 200_000 * (size / 256) ** 2
        return Rate(seconds, "a third party's 6 minutes a training at 256 px, on an RTX 3090")
    return UNMEASURED


def _pixels(size: int) -> float:
    return max(size / 32, 1.0) ** 2
