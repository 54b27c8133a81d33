"""What is known of a model before it is loaded: its classes, its size, and the bytes that are still to be fetched.

    folder, or Hub id -> files and their lengths -> small JSON files read, weights only counted

Of a Hub id the copy on this machine is looked at first; else the Hub is asked, and only its configurations are fetched.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dag_diffusion.classifiers.image_classifiers import refuse_adapter, require_one_label
from dag_diffusion.classifiers.model_transforms import WAY_OUT
from dag_diffusion.data.files import read_json_object
from dag_diffusion.hub.errors import plain_errors

WEIGHTS, PICKLES = (".safetensors",), (".bin", ".pt", ".pth", ".ckpt")
LATENT_CHANNELS = 4  # of an autoencoder of diffusers whose configuration does not say
PROCESSORS = {"preprocessor_config.json", "processor_config.json"}
INDEX, PARTS = "model_index.json", ("transformer", "vae")
# the network whose rates were measured: layers, heads, channels of a head, and side of the latents
DIT_XL = {"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72, "sample_size": 32}


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        name: folder or Hub id, as it was given.
        sizes: name to bytes of each file.
        folder: where they are on this machine; None: they are to be fetched.
    """

    name: str
    sizes: Mapping[str, int]
    folder: Path | None

    def json(self, name: str) -> dict[str, Any]:
        """A small file of it, fetched if need be; empty where there is none."""
        if name not in self.sizes:
            return {}
        if self.folder is not None:
            return read_json_object(self.folder / name)
        from huggingface_hub import hf_hub_download

        with plain_errors(self.name):
            return read_json_object(Path(hf_hub_download(self.name, name)))

    def weights(self, part: str = "") -> int:
        """Bytes of safetensors at the top, or in a part."""
        return sum(size for name, size in self.sizes.items() if _is_in(name, part) and name.endswith(WEIGHTS))

    def require_weights(self, part: str = "", *, trust_bin: bool = False) -> None:
        """Check that there are weights to be read.

        Raises:
            ValueError: there are none, or only pickles that nobody trusts.
        """
        pickles = [name for name in self.sizes if _is_in(name, part) and name.endswith(PICKLES)]
        place = f"{self.name}/{part}" if part else self.name
        if self.weights(part) or (pickles and trust_bin):
            return
        if pickles:
            raise ValueError(
                f"{place} has weights only as pickles ({pickles[0]}), which are not read unasked; take another "
                "repository, or of a pipeline trust_bin=True"
            )
        raise ValueError(
            f"{place} has no weights (*.safetensors); give a folder written by save_pretrained, or a Hub id"
        )

    @property
    def to_fetch(self) -> int:
        """Bytes of weights that are not on this machine."""
        return 0 if self.folder is not None else sum(n for name, n in self.sizes.items() if name.endswith(WEIGHTS))


def _is_in(name: str, part: str) -> bool:
    return name.rpartition("/")[0] == part


def files_of(name: str) -> ModelFiles:
    """The files of a model in a folder, in the copy that this machine has of a Hub repository, or on the Hub.

    Raises:
        FileNotFoundError: there is none.
        ConnectionError: it is not on this machine, and the Hub does not answer.
    """
    if Path(name).is_dir():
        return ModelFiles(name, _sizes_in(Path(name)), Path(name))
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"there is no model {name}; give its folder, or a Hub id such as facebook/DiT-XL-2-256")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        cached = Path(snapshot_download(name, local_files_only=True))
        sizes = _sizes_in(cached)
        if any(file.endswith((*WEIGHTS, *PICKLES)) for file in sizes):  # not only configurations
            return ModelFiles(name, sizes, cached)
    try:
        with plain_errors(name):
            info = HfApi().model_info(name, files_metadata=True, timeout=20)
    except HFValidationError as error:
        raise FileNotFoundError(f"{name} is neither a folder nor a Hub id; give one of them") from error
    except ConnectionError as error:
        raise ConnectionError(f"{name} is not on this machine, and {error}") from error
    return ModelFiles(name, {one.rfilename: one.size or 0 for one in info.siblings or []}, None)


def _sizes_in(folder: Path) -> dict[str, int]:
    found = {}
    for place, _, files in os.walk(folder, followlinks=True):
        for file in files:
            path = Path(place, file)
            with suppress(OSError):  # a link that leads nowhere
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


@dataclass(frozen=True)
class PipelineFacts:
    """What the configurations of a DiT pipeline say.

    Attributes:
        class_names: label to name.
        size: pixels per side of its images.
        own_classifier: label to name of the classifier that it carries; None without one.
        has_weak: whether it carries a weak denoiser, for autoguidance.
        is_dit_xl: whether it is the network whose rates were measured.
        latents: channels of its autoencoder's latents, and how many times wider images are.
    """

    class_names: dict[int, str]
    size: int
    own_classifier: dict[int, str] | None
    has_weak: bool
    is_dit_xl: bool
    latents: tuple[int, int]


def pipeline_facts(files: ModelFiles, *, trust_bin: bool = False) -> PipelineFacts:
    """Facts of a pipeline.

    Raises:
        ValueError: it is no DiT pipeline with weights.
    """
    index = files.json(INDEX)
    transformer, vae = (files.json(f"{part}/config.json") for part in PARTS)
    if not index or not transformer or not vae:
        lacking = next(f for f in (INDEX, *(f"{part}/config.json" for part in PARTS)) if f not in files.sizes)
        raise ValueError(f"{files.name} is no DiT pipeline, since it has no {lacking}; give its folder or Hub id")
    for part in PARTS:
        files.require_weights(part, trust_bin=trust_bin)
    known = {int(label): str(name) for label, name in (index.get("id2label") or {}).items()}
    count = int(transformer.get("num_embeds_ada_norm") or len(known))
    carried = files.json("classifier/config.json") if index.get("classifier", [None])[0] else {}
    return PipelineFacts(
        class_names={label: known.get(label, f"LABEL_{label}") for label in range(count)},
        size=int(transformer.get("sample_size") or 0) * _factor(vae),
        own_classifier=_class_names(carried) if carried else None,
        has_weak=bool(index.get("weak_transformer", [None])[0]),
        is_dit_xl=all(transformer.get(name) == value for name, value in DIT_XL.items()),
        latents=_latents(vae),
    )


def latents_of(files: ModelFiles) -> tuple[int, int]:
    """Of an autoencoder, or of that of a pipeline: channels of its latents, and how many times wider images are.

    Raises:
        ValueError: it is none, or has no weights.
    """
    part, config = _vae_of(files)
    if config.get("_class_name") != "AutoencoderKL":
        raise ValueError(f"{files.name} is no AutoencoderKL and no pipeline that has one; give its folder or Hub id")
    files.require_weights(part)
    return _latents(config)


def grey_warning(files: ModelFiles, channels: int) -> str | None:
    """A sentence on an autoencoder, or a pipeline, of grey images beside images of one's own of so many channels."""
    if channels == 1 or _vae_of(files)[1].get("in_channels") != 1:
        return None
    return (
        f"{files.name} draws grey images, and yours have colours, so that real and generated images differ by these; "
        "channels=1 compares all in grey"
    )


def _vae_of(files: ModelFiles) -> tuple[str, dict[str, Any]]:
    """The part that is the autoencoder, empty if it is the whole, and its configuration."""
    part = "vae" if "vae/config.json" in files.sizes else ""
    return part, files.json("vae/config.json" if part else "config.json")


def _latents(config: Mapping[str, Any]) -> tuple[int, int]:
    return int(config.get("latent_channels") or LATENT_CHANNELS), _factor(config)


def _factor(config: Mapping[str, Any]) -> int:
    """How many times wider images are than the latents of an autoencoder of this configuration."""
    return int(2 ** (len(config.get("block_out_channels") or [0]) - 1))


def classifier_names(files: ModelFiles) -> dict[int, str]:
    """Label to class name of a classifier.

    Raises:
        ValueError: it is none, has no weights, is for several labels an image, or does not say how it wants images.
    """
    refuse_adapter(files.name, list(files.sizes))
    if not (config := files.json("config.json")):
        raise ValueError(f"{files.name} is no classifier, since it has no config.json; give its folder or Hub id")
    files.require_weights()
    require_one_label(config.get("problem_type"))
    if not (PROCESSORS & files.sizes.keys() or config.get("preprocessing") or config.get("pretrained_cfg")):
        raise ValueError(
            f"{files.name} does not say how it wants its images; put its preprocessor_config.json there, or {WAY_OUT}"
        )
    return _class_names(config)


def _class_names(config: Mapping[str, Any]) -> dict[int, str]:
    """Label to name, as transformers reads the configuration, which knows those of timm's own files too."""
    from transformers import AutoConfig
    from transformers.models.timm_wrapper import TimmWrapperConfig

    plain = json.loads(json.dumps(config))
    kind = plain.pop("model_type", None)
    if kind is None and "architecture" in plain:
        read: Any = TimmWrapperConfig.from_dict(plain)
    elif kind is None:
        raise ValueError(
            f"a classifier's config.json has {', '.join(plain) or 'nothing'}, but neither a model_type nor an "
            "architecture; give a transformers or timm classifier"
        )
    else:
        read = AutoConfig.for_model(kind, **plain)
    return {int(label): str(name) for label, name in sorted((read.id2label or {}).items(), key=lambda one: int(one[0]))}
