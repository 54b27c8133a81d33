"""Fine-tuning: which weights of a denoiser are trained, and how what was learnt becomes part of it.

    all        every weight
    lora       W + B A in attention and adaptive norms, of rank r, by peft (Hu et al. 2021)
    difffit    biases, norms, and scales gamma of outputs, gamma (W x + b), in the first half of the blocks
               (Xie et al. 2023, arXiv 2304.06648)

The label tables are trained in all three.  What ``adapt`` adds, ``fold`` puts into the weights that were there, so that
a finished transformer has the tensors of any other and needs no peft.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import save
from torch import Tensor, nn

from dag_diffusion.data.files import write_atomically
from dag_diffusion.seeding import seeded

TUNINGS = ("all", "lora", "difffit")
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "norm1.linear")  # attention and adaptive norms
SCALED = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.2")  # the last two: residual branches
TABLE = "embedding_table"  # of labels, in every block
ADAPTER = "adapter"  # folder beside the parts of a pipeline


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """What of a pretrained denoiser is trained.

    Attributes:
        base: folder or Hub id of the DiT pipeline to start from; None: none, a denoiser is trained from scratch.
        tune: what is trained of a pretrained denoiser: all weights, lora (low-rank changes of attention and adaptive
            norms), or difffit (biases, norms and scales).  The label table always is.
        rank: rank of the low-rank changes, for lora.
    """

    base: str | None = None
    tune: str = "all"
    rank: int = 8

    def __post_init__(self) -> None:
        if self.tune not in TUNINGS:
            raise ValueError(f"a denoiser cannot be tuned by {self.tune!r}; choose one of {', '.join(TUNINGS)}")
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; a low-rank change needs a rank of at least 1, and 8 is usual")
        if self.tune == "lora" and find_spec("peft") is None:
            raise ValueError(
                "tune='lora' needs peft; install the extra dag-diffusion[lora], or choose 'difffit', which is as frugal"
            )


class Scaled(nn.Module):
    """A linear layer with a learnt scale of each output, 1 at first.

    Where it ends a residual branch, this is also DiffFit's scale of the branch.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.gamma = nn.Parameter(torch.ones(layer.out_features, device=layer.weight.device))

    def forward(self, inputs: Tensor) -> Tensor:
        """``gamma * layer(inputs)``, in the precision of the layer."""
        outputs = self.layer(inputs)
        return outputs * self.gamma.to(outputs.dtype)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The layer with the scale in its weights."""
        self.layer.weight.mul_(self.gamma[:, None])
        if self.layer.bias is not None:
            self.layer.bias.mul_(self.gamma)
        return self.layer


def adapt(transformer: DiTTransformer2DModel, config: FineTuningConfig, *, seed: int = 0) -> "Adaptation":
    """Prepare a transformer, in place, so that only what is to be trained requires gradients.

    Args:
        transformer: with its final classes, see ``label_tables.set_classes``.
        seed: of what LoRA draws.  At first the transformer computes what it did before.
    """
    return {"all": Adaptation, "lora": LowRank, "difffit": DiffFit}[config.tune](transformer, config, seed)


class Adaptation:
    """A transformer in training: its trained parameters, and the way back.  This one trains all weights."""

    def __init__(self, transformer: DiTTransformer2DModel, config: FineTuningConfig, seed: int = 0) -> None:
        self.transformer, self.config = transformer, config
        self._own = dict(transformer.named_parameters())
        self._required = {name: parameter.requires_grad for name, parameter in self._own.items()}
        self.rested = False
        self._attach(seed)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that are trained."""
        return ((name, one) for name, one in self.transformer.named_parameters() if one.requires_grad)

    def rest_in(self, dtype: torch.dtype) -> None:
        """Keep weights that are not trained in a smaller precision; under autocast to it they compute the same."""
        self.rested = True
        for parameter in self._own.values():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)

    def fold(self, weights: Mapping[str, Tensor] | None = None) -> None:
        """Put what was learnt into the transformer's own weights, which require gradients again as before.

        Args:
            weights: by name, of the transformer before it was adapted, where they have rested in a smaller precision.
        """
        for name, parameter in self._own.items():
            if weights is not None and not parameter.requires_grad:
                parameter.data = weights[name].to(parameter.device, copy=True)
        self._detach()
        for name, parameter in self.transformer.named_parameters():
            parameter.requires_grad_(self._required[name])

    def save(self, folder: Path) -> None:
        """Write what was learnt, before it is folded, as safetensors into a folder, if it is less than the whole."""

    def _attach(self, seed: int) -> None:
        self.transformer.requires_grad_(True)

    def _detach(self) -> None:
        pass


class LowRank(Adaptation):
    """Low-rank changes by peft, ``W + B A``; the label tables are trained whole."""

    def _attach(self, seed: int) -> None:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.rank,  # a scale of 1
            target_modules=list(LORA_TARGETS),
            modules_to_save=[TABLE],
        )
        with seeded(seed):
            self._adapted: Any = get_peft_model(self.transformer, lora)  # the transformer itself, with other layers
        for _, parameter in self.trained():
            parameter.data = parameter.data.float()

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's form; ``PeftModel.from_pretrained`` reads it onto the base with these classes."""
        self._adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # an empty card of peft's

    def _detach(self) -> None:
        self._adapted.merge_and_unload()


class DiffFit(Adaptation):
    """Biases, norms and scales of outputs; every other weight rests."""

    def _attach(self, seed: int) -> None:
        self.transformer.requires_grad_(False)
        half = -(-len(self.transformer.transformer_blocks) // 2)
        for block in self.transformer.transformer_blocks[:half]:
            for name in SCALED:
                block.set_submodule(name, Scaled(block.get_submodule(name)))
        for name, parameter in self.transformer.named_parameters():
            parameter.requires_grad_(parameter.ndim == 1 or TABLE in name)  # biases, norms and scales are vectors

    def save(self, folder: Path) -> None:
        """Write scales, biases, norms and label tables by name."""
        tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in self.trained()}
        write_atomically(folder / "difffit.safetensors", save(tensors))

    def _detach(self) -> None:
        for block in self.transformer.transformer_blocks:
            for name in SCALED:
                if isinstance(layer := block.get_submodule(name), Scaled):
                    block.set_submodule(name, layer.folded())
