"""Options that several commands share: their types, limits, help, and the group that they stand in."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .fields import Fields, Values

MODELS, SPEED, FILES = "Models", "Speed and memory", "Files and progress"  # groups in the help
IMAGES, TUNING = "Images", "Fine-tuning"

OnCanvas = Annotated[Values, Fields("data.canvas:Canvas", ["background", "trim"], IMAGES)]
ToPrepare = Annotated[
    Values,
    Fields("own_images.config:FolderConfig", ["background", "trim", "most", "links", "skip_unreadable"], IMAGES),
]
PoolPath = Annotated[
    Path,
    Argument(help="folder of class folders, list such as train.csv, .parquet file, or folder of Dataset.save_to_disk"),
]
FitAsTrained = Annotated[
    str | None,
    Option(
        "--fit",
        help="pad, crop or stretch to a square; default: as the models were trained, if they were trained here, else "
        "crop",
        rich_help_panel=IMAGES,
    ),
]
FitUnasked = Annotated[
    str | None,
    Option(
        "--fit", help="pad, crop or stretch to a square; default: by what most images are like", rich_help_panel=IMAGES
    ),
]
SkipUnreadable = Annotated[
    bool, Option("--skip-unreadable", help="leave out images that cannot be read, instead of naming them")
]
Vae = Annotated[Values, Fields("training.generators.settings:GeneratorConfig", ["vae"], MODELS)]
Base = Annotated[
    str | None,
    Option(
        "--from",
        "--base",
        help="fine-tune: folder or Hub id of a DiT pipeline, which gets your classes and keeps its size",
        rich_help_panel=TUNING,
    ),
]
Tuning = Annotated[Values, Fields("training.fine_tuning:FineTuningConfig", ["tune", "rank"], TUNING)]
Ipc = Annotated[int, Option(min=1, help="images per class in the final set")]
Seed = Annotated[int, Option(min=0, help="random seed")]
Quiet = Annotated[bool, Option("--quiet", help="no progress bars", rich_help_panel=FILES)]
Overwrite = Annotated[
    bool, Option("--overwrite", help="replace what an earlier run wrote there, and nothing else", rich_help_panel=FILES)
]
Pipeline = Annotated[
    str | None, Option(help="folder or Hub id of a DiT pipeline; default: the embedded one", rich_help_panel=MODELS)
]
AnyPipeline = Annotated[
    str | None,
    Option(
        help="folder or Hub id of a DiT or text-to-image pipeline, of which then only the VAE is read; default: the "
        "embedded one",
        rich_help_panel=MODELS,
    ),
]
Classifier = Annotated[
    str | None,
    Option(
        help="folder or Hub id of the guide, a classifier, or 'embedded'; default: the pipeline's own",
        rich_help_panel=MODELS,
    ),
]
Target = Annotated[
    str | None,
    Option(
        help="reference, auto (real images, easier for small sets), a preset (hill, ground, slope, cliff), uniform, "
        "beta:A,B, quantiles:A,B,..., one difficulty, ten shares from easy to hard, a scored folder of real images, a "
        "JSON file {class: target}, or a sum such as '0.7*reference + 0.3*hill'"
    ),
]
Classes = Annotated[str | None, Option(help="class names or labels, separated by semicolons; default: all")]
TrustBin = Annotated[
    bool, Option("--trust-bin", help="read .bin weights of a pipeline without safetensors", rich_help_panel=MODELS)
]
OfClasses = Annotated[
    str,
    Option(
        "--among",
        help="all: difficulty among all classes of the classifier, as in the paper; set: among the classes of the set "
        "alone",
    ),
]
ClassMap = Annotated[
    Path | None,
    Option(help="JSON file from the pool's class names to those of the classifier or target, where no rule finds them"),
]
RealClassMap = Annotated[
    Path | None,
    Option(
        "--class-map",
        help="JSON file from the sets' class names to those of the real images, where no rule finds them",
    ),
]
ScoresPath = Annotated[
    Path | None,
    Option("--scores", help="JSON lines that score --output wrote of the pool; default: its metadata"),
]
Device = Annotated[
    str | None, Option(help="cpu, cuda, mps, ...; default: what accelerate finds", rich_help_panel=SPEED)
]
Precision = Annotated[
    str | None,
    Option(help="float32, float16 or bfloat16; default: float16 on CUDA, else float32", rich_help_panel=SPEED),
]
PipelinePrecision = Annotated[
    str | None,
    Option(
        "--precision",
        help="float32, bfloat16 or float16; default: weights as saved, pools drawn in bfloat16 if the processor has it",
        rich_help_panel=SPEED,
    ),
]
BatchSize = Annotated[
    int, Option(min=1, help="images at a time; while generating, halved when out of memory", rich_help_panel=SPEED)
]
NumProcesses = Annotated[
    int,
    Option(
        min=1,
        help="processes on this machine, one per GPU; for several machines see docs/how-to/cluster.md",
        rich_help_panel=SPEED,
    ),
]
ProcessesUnasked = Annotated[
    int | None,
    Option(
        "--num-processes",
        min=1,
        envvar="DAG_DIFFUSION_NUM_PROCESSES",
        help="processes on this machine; default: on a CPU one per core, up to 4, if the work is long enough, "
        "else 1; for several machines see docs/how-to/cluster.md",
        rich_help_panel=SPEED,
    ),
]
LogWith = Annotated[
    list[str] | None,
    Option(
        help="tensorboard, wandb or another of accelerate's trackers; may be given several times",
        rich_help_panel=FILES,
    ),
]
