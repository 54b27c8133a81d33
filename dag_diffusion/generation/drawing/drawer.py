"""What draws the images of a pool, a batch at a time: ``filling`` knows this, and no pipeline.

jobs (label, seed, target, mode, prompt) -> images, and how hard the guide finds them
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from PIL import Image
from torch import Tensor, nn

from dag_diffusion.generation.plan import ImageJob, PoolConfig
from dag_diffusion.generation.repairing.repair import Fault

Drawn = list[tuple[ImageJob, Image.Image, float | None]]


class Drawer(Protocol):
    """A pipeline of some kind, as a pool is drawn by it.

    Attributes:
        pipeline: of diffusers, on the device of its process; its parts and its scheduler are recorded.
        guide: the classifier that measures, and with a target steers; None without one.
        extra_guides: more classifiers that steer.
        class_names: label to class name.
        image_size: (width, height) of every image, in pixels; None if only an image tells.
        details: what else the record says, and a resumed pool must agree in; JSON values only.
        always_repaired: faults of images that are drawn again in every pool, whether or not a repair is asked for.
    """

    @property
    def pipeline(self) -> Any: ...
    @property
    def guide(self) -> nn.Module | None: ...
    @property
    def extra_guides(self) -> Sequence[nn.Module]: ...
    @property
    def class_names(self) -> Mapping[int, str]: ...
    @property
    def image_size(self) -> tuple[int, int] | None: ...
    @property
    def details(self) -> Mapping[str, Any]: ...
    @property
    def always_repaired(self) -> Sequence[Fault]: ...

    def checked(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> PoolConfig:
        """The configuration with its numbers; ValueError for what would stop the first batch."""

    def guide_labels(self, labels: Sequence[int]) -> list[int]:
        """Labels of the guide for some of the pool's; ValueError where it lacks one."""

    def noise(self, seed: int) -> Tensor:
        """The initial noise that an image of this seed is drawn from, which a pool may choose among."""

    def draw(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> Drawn:
        """The images of a batch, each by its own seed, and their difficulties by the guide."""
