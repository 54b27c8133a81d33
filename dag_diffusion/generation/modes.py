"""Modes: cluster centres of the real images of each class in the VAE's latent space, and which image goes to which.

Images of a class go to its modes in turn, or in proportion to the clusters' sizes.  ``preparing.mode_search`` finds
modes, ``guidance.mode_guidance`` draws to them.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dag_diffusion.classifiers.weights import refuse_pickles
from dag_diffusion.data.class_names import match_classes, matching_classes
from dag_diffusion.data.files import recorded, require_file_place, write_safetensors
from dag_diffusion.identity import is_same_model, sketch_of
from dag_diffusion.sampling.targets import largest_remainder

logger = logging.getLogger(__name__)
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
FORMAT = "dag-diffusion modes 1"
OF_SEARCH = ("space", "settings")  # records in a file
ALLOTMENT = 0x6D6F6465  # a random stream of its own, since a pool shuffles its targets by (seed, label) too


@dataclass(frozen=True, eq=False)
class Modes:
    """Cluster centres of the real images of some classes, on the CPU.  Make them with ``find_modes``.

    Attributes:
        centres: ``(modes, channels, height, width)`` float32, means of latents.
        labels, sizes: ``(modes,)`` int64, class and number of real images.
        class_names: label to class name, of the classes that have modes.
        difficulties: ``(modes,)`` float32 in [0, 1], means of the images of each; None if they were not considered.
        vae: the VAE of these latents, in words; set it with ``dataclasses.replace``.
        space: what it is known again by, as of ``space_of``; empty where that was not recorded.
        images: digest of the real images, as of ``digest_of_images``; empty where that was not recorded.
        settings: what they follow from, as of ``settings_of_modes``; empty where that was not recorded.
    """

    centres: Tensor
    labels: Tensor
    sizes: Tensor
    class_names: dict[int, str]
    _: KW_ONLY
    difficulties: Tensor | None = None
    vae: str = ""
    space: Mapping[str, Any] = field(default_factory=dict)
    images: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        per_mode = [self.labels, self.sizes, *([] if self.difficulties is None else [self.difficulties])]
        fits = self.centres.ndim == 4 and all(values.shape == self.centres.shape[:1] for values in per_mode)
        if not (fits and set(self.labels.tolist()) <= set(self.class_names) and self.centres.isfinite().all()):
            raise ValueError(
                f"modes need finite centres (modes, channels, height, width), but have {tuple(self.centres.shape)}, "
                "and a named label, size and difficulty each"
            )

    def __repr__(self) -> str:
        """In a line: a notebook would print every centre."""
        latents = " x ".join(map(str, self.centres.shape[1:]))
        return (
            f"{type(self).__name__}({len(self.centres):,} modes of {len(self.class_names)} classes, latents {latents})"
        )

    def of_class(self, label: int) -> np.ndarray:
        """Positions of the modes of one class in ``centres``, ``(n,)`` int64; ValueError if it has none."""
        positions = np.flatnonzero(self.labels.numpy() == label)
        if not len(positions):
            known = ", ".join(f"{number} ({name})" for number, name in list(self.class_names.items())[:10])
            raise ValueError(f"no mode was found for label {label}, only for {known}; find modes for that class too")
        return positions

    def summary(self) -> dict:
        """Number, classes and hash, for the record; JSON values only."""
        parts = [self.centres, self.labels, *([] if self.difficulties is None else [self.difficulties])]
        digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
        return {
            "modes": len(self.labels),
            "classes": list(self.class_names.values()),
            "sha256": digest,
            "vae": self.vae,
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all; IsADirectoryError for a folder."""
        require_file_place(Path(path), "modes.safetensors")
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        metadata = {
            "format": FORMAT,
            "class_names": json.dumps(self.class_names),
            "vae": self.vae,
            "images": self.images,
        }
        metadata |= {name: json.dumps(value) for name in OF_SEARCH if (value := vars(self)[name])}
        write_safetensors(Path(path), tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Modes":
        """Read what ``save`` wrote; ValueError if it is missing, damaged or something else."""
        refuse_pickles(path)
        if not Path(path).is_file():
            raise ValueError(f"there is no file of modes at {path}; make one by find_modes()")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')}")
            names = {int(label): name for label, name in json.loads(metadata["class_names"]).items()}
            tensors["centres"] = tensors["centres"].float()  # a file may hold them in half precision
            records = {name: json.loads(metadata.get(name, "{}")) for name in OF_SEARCH}
            images = metadata.get("images", "")
            return cls(**tensors, class_names=names, vae=metadata["vae"], images=images, **records)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no intact file of modes ({error}); make one by find_modes()") from error


def require_replaceable_modes(path: Path) -> Modes | None:
    """The modes that are at ``path``, None where nothing is; FileExistsError if it is something else."""
    try:
        return Modes.load(path) if path.exists() else None
    except ValueError as error:
        raise FileExistsError(f"{path} holds something that is no file of modes; choose another output") from error


def allot(modes: Modes, label: int, count: int, *, proportional: bool = False, seed: int = 0) -> np.ndarray:
    """Which mode each of ``count`` images of a class is drawn to, ``(count,)`` int64 positions in ``modes.centres``.

    Args:
        proportional: by cluster size (largest remainder), so that images lie as dense as real ones; else each mode in
            turn, which keeps the quotas of ``find_difficulty_modes`` and what a smaller ``count`` gave.
        seed: of the order, shuffled so that the first images of a growing pool spread over the modes too.
    """
    positions = modes.of_class(label)
    if count < 1:
        raise ValueError(f"cannot allot {count} images of {modes.class_names[label]!r} to modes; ask for at least 1")
    generator = np.random.default_rng([seed, label, ALLOTMENT])
    if proportional:
        return generator.permutation(np.repeat(positions, largest_remainder(modes.sizes.numpy()[positions], count)))
    rounds = [generator.permutation(positions) for _ in range(-(-count // len(positions)))]
    return np.concatenate(rounds)[:count]


def match_modes(modes: Modes, allotted: np.ndarray, targets: Sequence[float]) -> np.ndarray:
    """Reorder the allotted modes so that the images with harder targets get the harder modes, ``(count,)``."""
    if modes.difficulties is None:
        raise ValueError("modes without difficulties cannot be matched to targets; find them by difficulty")
    matched = np.empty_like(allotted)
    matched[np.argsort(targets, kind="stable")] = allotted[
        np.argsort(modes.difficulties.numpy()[allotted], kind="stable")
    ]
    return matched


def load_modes(path: str | Path, class_names: Mapping[int, str]) -> Modes:
    """Modes from a file of those of its classes that a pipeline has, with its labels, matched by name.

    Raises:
        ValueError: the file holds no modes, or none of a class of the pipeline.
    """
    modes = Modes.load(path)
    if not modes.space:
        logger.warning("%s does not say of which VAE its modes are, so that this is not checked; find them anew", path)
    table = matching_classes(modes.class_names, class_names, "the pipeline")
    table = table or match_classes(modes.class_names, class_names, "the pipeline")  # which says why there is none
    shared = torch.tensor([label in table for label in modes.labels.tolist()])
    per_mode: dict[str, Any] = {name: value[shared] for name, value in vars(modes).items() if isinstance(value, Tensor)}
    per_mode["labels"] = torch.tensor([table[label] for label in per_mode["labels"].tolist()])
    return replace(modes, **per_mode, class_names={own: modes.class_names[label] for label, own in table.items()})


def space_of(pipeline: Any) -> dict[str, Any]:
    """What tells the latents of a pipeline from those of another: a sketch of its VAE's encoder, and their scaling.

    Decoders are left out, which are trained further for the same latents.
    """
    used = SCALING[:1] if getattr(pipeline, "latents_scaled_only", False) else SCALING
    scaling = {name: pipeline.vae.config.get(name) or None if name in used else None for name in SCALING}
    return recorded({"encoder": sketch_of(pipeline.vae.encoder), **scaling})


def require_modes_of(modes: Modes, pipeline: Any) -> None:
    """Refuse modes in the latents of another VAE than the pipeline's, as far as they say whose they are; ValueError."""
    own = dict(modes.space)
    if not own:
        return
    theirs = space_of(pipeline)
    if not is_same_model(own.pop("encoder"), theirs.pop("encoder")) or own != theirs:
        raise ValueError(
            f"the modes were found in the latents of another VAE ({modes.vae or 'unnamed'}), or scaled otherwise, than "
            "those of this pipeline, which would draw to noise; find modes with its own"
        )
