"""Options that several commands share: their types, limits and help."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

PoolPath = Annotated[Path, Argument(help="folder of class folders, or of Dataset.save_to_disk, or a .parquet file")]
Ipc = Annotated[int, Option(min=1, help="images per class in the final set")]
Seed = Annotated[int, Option(min=0, help="of every random choice")]
Quiet = Annotated[bool, Option("--quiet", help="no progress bars")]
Overwrite = Annotated[bool, Option("--overwrite", help="replace an earlier pool or set in the output folder")]
Pipeline = Annotated[str, Option(help="folder or Hub id of a DiT pipeline; default: the embedded one")]
Classifier = Annotated[str, Option(help="folder or Hub id of an image classifier; default: the pipeline's own guide")]
Target = Annotated[
    str | None,
    Option(
        help="reference, a preset (hill, ground, slope, cliff), uniform, beta:A,B, quantiles:A,B,..., one difficulty, "
        "ten shares from easy to hard, a scored folder of real images, a JSON file {class: target}, or a sum such as "
        "'0.7*reference + 0.3*hill'"
    ),
]
Classes = Annotated[str, Option(help="class names or labels, separated by semicolons; default: all")]
TrustBin = Annotated[bool, Option("--trust-bin", help="read .bin weights of a pipeline without safetensors")]
Steps = Annotated[int | None, Option(min=1, help="denoising steps; default: the pipeline's own")]
GuidanceScale = Annotated[
    float | None, Option(help="scale of classifier-free guidance, on above 1; default: the pipeline's own")
]
ClassMap = Annotated[
    Path | None, Option(help="JSON file of the pool's class names to the others', where no rule finds them")
]
ScoresPath = Annotated[
    Path | None,
    Option("--scores", help="JSON lines that score --output wrote of the pool; default: its metadata"),
]
Device = Annotated[str, Option(help="cpu, cuda, mps, ...; default: what accelerate finds")]
Precision = Annotated[
    str, Option(help="float32, float16 or bfloat16; default: float16 on CUDA, else the classifier's own")
]
PipelinePrecision = Annotated[
    str, Option("--precision", help="float32, bfloat16 or float16; default: as the pipeline was saved")
]
BatchSize = Annotated[int, Option(min=1, help="images at a time")]
