"""Whether a guide sees along its gradient what it sees of a file: both forms of its preprocessing on test images.

    |d(own transform of a picture) - d(differentiable form)| <= 0.005    for every class, or the guide is refused

Only squares of the pipeline's size count, since guidance sees no others; a difference on other shapes is told.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .image_classifiers import image_logits, prepared_logits, preprocessing_of
from .model_transforms import WAY_OUT, AnyPreprocessing, ModelTransform
from .preprocessing import eight_bit_tensor

logger = logging.getLogger(__name__)
TOLERANCE = 0.005  # of a difficulty
DOUBT = 2.0  # log-odds of the first class against the second, at which a difficulty still tells what a guide sees
_CHECKED: WeakKeyDictionary[nn.Module, set[tuple[AnyPreprocessing, int]]] = WeakKeyDictionary()


def require_same_measure(classifier: nn.Module, size: int, preprocessing: AnyPreprocessing | None = None) -> None:
    """Check that a guide's difficulty of a square image is the one that its file has; once for each guide and size.

    Args:
        classifier: the guide, in evaluation mode.
        size: side of the pipeline's images, in pixels.
        preprocessing: the guide's, looked up if not given.

    Raises:
        ValueError: the two differ by more than ``TOLERANCE``, which is told, no gradient reaches the pixels, or it
            gives probabilities.
    """
    preprocessing = preprocessing or preprocessing_of(classifier)
    checked = _CHECKED.setdefault(classifier, set())
    if (preprocessing, size) in checked:
        return
    resizes = isinstance(preprocessing, ModelTransform) or (preprocessing.height, preprocessing.width) != (size, size)
    if resizes:
        _require_gradient(preprocessing, size)
    black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, preprocessing.channels, size, size)
    with torch.no_grad():
        image_logits(classifier, black_and_white, preprocessing)  # of two images, at which it refuses probabilities
    _require_gradient_of_network(classifier, preprocessing, size)
    if resizes:
        _require_alike(classifier, preprocessing, size)
    checked.add((preprocessing, size))


def require_seeing(classifier: nn.Module, name: str | Path) -> None:
    """Check that a classifier has logits for a black and a white picture, read as a file is; or ValueError.

    Args:
        name: that it is called by.
    """
    try:
        require_logits_of_two(classifier, preprocessing_of(classifier))
    except Exception as error:  # whatever a network or its image processor raises at images that it cannot see
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{name} cannot look at an image; mend its configuration, or give another classifier: {reason}"
        ) from error


def require_logits_of_two(classifier: nn.Module, preprocessing: AnyPreprocessing) -> None:
    """Look at a black and a white picture, as ``prepared_logits`` does; of one alone probabilities could be logits."""
    pictures = [preprocessing.read(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white")]
    with torch.no_grad():
        prepared_logits(classifier, preprocessing.normalised(torch.cat(pictures)))


def require_classifier(given: Any) -> None:
    """Refuse what is no network, has no weights, or does not say which classes its logits are of; ValueError."""
    kind = type(given).__name__
    if not isinstance(given, nn.Module):
        way = f"load_classifier({str(given)!r})" if isinstance(given, str | Path) else "load_classifier('...')"
        raise ValueError(f"a {kind} can neither steer nor score; give an image classifier, such as {way}")
    if not isinstance(getattr(getattr(given, "config", None), "id2label", None), Mapping):
        raise ValueError(
            f"a {kind} does not say which classes its logits are of: it has no config.id2label, {{label: name}}; load "
            "a transformers or timm model by load_classifier('...'), or wrap yours as docs/how-to/classifiers.md shows"
        )
    if next(given.parameters(), None) is None:
        raise ValueError(
            f"a {kind} has no parameters, which tell its device and precision; give it one, such as a scale"
        )


def require_evaluation_mode(classifiers: Iterable[nn.Module]) -> None:
    """Refuse guides in training mode, whose answers depend on the batch; ValueError."""
    for classifier in classifiers:
        if classifier.training:
            raise ValueError(
                f"a {type(classifier).__name__} that should steer is in training mode; call its eval() first"
            )


def difference(classifier: nn.Module, preprocessing: AnyPreprocessing, picture: Image.Image) -> float:
    """The largest difference of any class's difficulty between the two forms, for a picture, in [0, 1].

    A guide that is sure finds 0 or 1 whatever it sees, so that it is also asked at a temperature at which it is in
    doubt.
    """
    device = next(classifier.parameters()).device
    images = eight_bit_tensor(picture, 1 if picture.mode == "L" else 3).to(device) / 255
    with torch.no_grad():
        forms = preprocessing.normalised(preprocessing.read(picture).to(device)), preprocessing(images)
        own, other = (prepared_logits(classifier, form) for form in forms)
    first, second = own.topk(2, dim=1).values[0]
    temperatures = (1.0, max(1.0, float(first - second) / DOUBT))
    return max(float(((own / t).softmax(1) - (other / t).softmax(1)).abs().max()) for t in temperatures)


def pictures_of(size: int) -> Iterator[tuple[str, Image.Image]]:
    """Pictures with slopes, edges, text-like strokes and noise: squares of a size, then other shapes, by name."""
    shapes = {
        "square": (size, size),
        "grey": (size, size),
        "wide": (3 * size // 2, size),
        "tall": (size, 3 * size // 2),
    }
    for name, (width, height) in (shapes | {"small": (size // 2,) * 2, "large": (2 * size,) * 2}).items():
        colour = Image.fromarray(_drawn(max(width, 2), max(height, 2)))
        yield name, colour.convert("L") if name == "grey" else colour


def _drawn(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(6 * x / width + 1), np.cos(9 * y / height), np.sin(15 * (x + y) / (width + height))]
    image = 127 + 110 * np.stack(waves, -1)
    image[height // 4 : height // 2, width // 4 : width // 2] = 255
    image[height // 2 :: 7, : width // 3] = 0
    return (image + np.random.default_rng(0).normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def _require_gradient(preprocessing: AnyPreprocessing, size: int) -> None:
    with torch.enable_grad():
        images = torch.zeros(1, preprocessing.channels, size, size, requires_grad=True)
        try:
            made: Tensor | None = preprocessing(images)
        except Exception as error:  # whatever a library raises at tensors where it knows pictures
            logger.debug("no differentiable form: %s", error)
            made = None
    if made is None or not made.requires_grad:
        raise ValueError(
            "no gradient goes through the guide's own image processor, so that it can score and not steer; "
            f"choose another guide, or {WAY_OUT}"
        )


def _require_gradient_of_network(classifier: nn.Module, preprocessing: AnyPreprocessing, size: int) -> None:
    found, reason = None, "it is cut on the way, as by torch.no_grad(), whole numbers or numpy"
    with torch.inference_mode(False), torch.enable_grad():
        images = torch.zeros(1, preprocessing.channels, size, size, requires_grad=True)
        try:
            logits = image_logits(classifier, images, preprocessing)
            found = torch.autograd.grad(logits.sum(), images, allow_unused=True)[0] if logits.requires_grad else None
        except RuntimeError as error:  # such as of weights that were made in inference mode
            reason = str(error).strip().split("\n")[0]
    if found is None:
        raise ValueError(
            "no gradient goes through the guide's own network, so that it can score and not steer; give another guide, "
            f"or mend its forward(): {reason}"
        )


def _require_alike(classifier: nn.Module, preprocessing: AnyPreprocessing, size: int) -> None:
    found: dict[str, float] = {}
    for name, picture in pictures_of(size):
        try:
            found[name] = difference(classifier, preprocessing, picture)
        except Exception:  # some of timm's steps take no tensors of other shapes, which guidance never has
            if name in {"square", "grey"}:
                raise
            found[name] = 1.0
    worst = max(found["square"], found["grey"])
    if worst > TOLERANCE:
        raise ValueError(
            f"the guide cannot steer: along its gradient it finds {size}-pixel images up to {worst:.3f} harder or "
            f"easier than its own preprocessing does (at most {TOLERANCE}); choose another guide, or {WAY_OUT}"
        )
    if others := {name: value for name, value in found.items() if value > TOLERANCE}:
        shape = max(others, key=lambda name: others[name])
        logger.warning("on %s images the guide's two forms differ by %.3f; guidance sees none", shape, others[shape])
