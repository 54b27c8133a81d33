"""A dry run: every problem at once and before anything is done, or a plan with the figures and commands of the work."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import hub_server
import imagenet_layouts as layouts
import pytest
from accelerate.commands.launch import launch_command_parser
from huggingface_hub import constants
from tiny import tiny_classifier, tiny_pipeline, tiny_transformer, tiny_vae, write_images
from typer.main import get_command

from dag_diffusion.cli import commands as cli
from dag_diffusion.data.imagenet import SUBSETS
from dag_diffusion.distillation.config import DistillationConfig
from dag_diffusion.own_images import FolderConfig
from dag_diffusion.own_images.distilling import plan_folder, work_folder
from dag_diffusion.own_images.planning import rates
from dag_diffusion.own_images.planning.models import classifier_names, files_of
from dag_diffusion.own_images.planning.problems import ProblemsError

ROOT = Path(__file__).parents[1]
EXAMPLES, RESULTS = ROOT / "examples", ROOT / "benchmarks" / "results"
SMALL = ["--ipc", 2, "--size", 16, "--channels", 1, "--network", "convnet-2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return layouts.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def call(monkeypatch, capsys):
    """The command as a shell starts it: exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["dag-diffusion", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "250")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def options(models: dict[str, str]) -> list[str]:
    return [word for name, value in models.items() for word in (f"--{name}", value)]


def sorted_ilsvrc(root: Path) -> tuple[Path, Path]:
    return layouts.write_train(root / "train", layouts.WOOF), layouts.write_val(root / "val", layouts.WOOF)


def listed_ilsvrc(root: Path) -> tuple[Path, Path]:
    """val flat, with TensorFlow's list of synsets beside the folder."""
    classes = layouts.write_flat_val(root / "val", layouts.WOOF)
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{s}\n" for s in classes.values()))
    return layouts.write_train(root / "train", layouts.WOOF), root / "val"


def mapped_ilsvrc(root: Path) -> tuple[Path, Path]:
    """val flat, with a mapping of one's own among the images."""
    classes = layouts.write_flat_val(root / "val", layouts.WOOF)
    (root / "val" / "mapping.csv").write_text("file,synset\n" + "".join(f"{n},{s}\n" for n, s in classes.items()))
    return layouts.write_train(root / "train", layouts.WOOF), root / "val"


LAYOUTS = {
    "ILSVRC, val in folders": sorted_ilsvrc,
    "ILSVRC, val flat, list beside the folder": listed_ilsvrc,
    "ILSVRC, val flat, mapping among the images": mapped_ilsvrc,
    "Kaggle's ILSVRC": layouts.write_kaggle,
    "fastai's imagewoof2": layouts.write_fastai,
    "Tiny-ImageNet": layouts.write_tiny_imagenet,
    "parquet of the Hub": layouts.write_hub,
}


@pytest.mark.parametrize(("command", "layout"), [*(("distill", name) for name in LAYOUTS), ("run", "Kaggle's ILSVRC")])
def test_layouts_of_imagenet_are_read_for_the_example(tmp_path, call, models, layout, command):
    train, test = LAYOUTS[layout](tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    config = ["--config", EXAMPLES / "imagewoof.yaml", "--train", train, "--test", test, "--output", tmp_path / "out"]
    code, out, errors = call(command, "--dry-run", *config, *SMALL, *options(models))
    assert code == 0, errors
    assert re.search(r"classes +│ 10: n02096294, n02093754, n02111889|classes +│ 10: Australian terrier, Border", out)
    assert f"40 in {train}, 4 to 4 a class" in out
    assert f"20 in {test}" in out
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written


@pytest.mark.parametrize("name", ["imagenette", "imageidc"])
def test_examples_of_other_subsets_are_planned_too(tmp_path, call, models, name, caplog):
    synsets = next(synsets for subset, synsets in SUBSETS.items() if subset.lower() == name)
    train, test = layouts.write_train(tmp_path / "train", synsets), layouts.write_val(tmp_path / "val", synsets, 50)
    config = ["--config", EXAMPLES / f"{name}.yaml", "--train", train, "--test", test, "--output", tmp_path / "out"]
    code, out, errors = call("distill", "--dry-run", *config, *SMALL, *options(models))
    assert (code, errors, caplog.text) == (0, "", "")  # the split is that of ILSVRC, as the file says
    assert f"10: {', '.join(synsets[:3])} and 7 more" in out


def test_whole_of_imagenet_is_planned_with_its_flat_val(tmp_path, call, models, caplog):
    from timm.data import ImageNetInfo

    synsets = list(ImageNetInfo("imagenet-1k").label_names())
    for synset, name in zip(synsets, layouts.write_flat_val(tmp_path / "flat", synsets, 1), strict=True):
        (tmp_path / "train" / synset).mkdir(parents=True)
        os.link(tmp_path / "flat" / name, tmp_path / "train" / synset / f"{synset}_1.JPEG")
    names = layouts.write_flat_val(tmp_path / "val", synsets, 1)
    labels = "".join(f"{name} {synsets.index(synset)}\n" for name, synset in names.items())
    (tmp_path / "val.txt").write_text(labels)  # ImageNet's numbers in their usual order, as Caffe has them
    config = ["--config", EXAMPLES / "imagenet.yaml", "--train", tmp_path / "train", "--test", tmp_path / "val"]
    small = ["--ipc", 1, "--size", 16, "--channels", 1, "--network", "convnet-2"]
    code, out, errors = call("run", "--dry-run", *config, "--output", tmp_path / "out", *small, *options(models))
    assert code == 0, errors
    assert "1,000: n01440764, n01443537, n01484850 and 997 more" in out
    assert "2 x 5,000 of 16 px, of which 1,000 are kept" in out
    assert "1000 of 1000 test images are training images too" in caplog.text


def test_all_problems_are_told_at_once_one_line_each(tmp_path, call):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:3])
    shutil.rmtree(train / layouts.WOOF[2])
    (train / layouts.WOOF[2]).mkdir()
    layouts.write_jpeg(train / layouts.WOOF[2] / "one.JPEG")
    (train / layouts.WOOF[0] / f"{layouts.WOOF[0]}_0.JPEG").write_bytes(b"cut off")
    names = {0: "beagle", 1: "dingo"}
    tiny_classifier(names).save_pretrained(tmp_path / "guide")
    tiny_pipeline(classifier=None).save_pretrained(tmp_path / "pipeline")
    shutil.rmtree(tmp_path / "pipeline" / "vae")
    (taken := tmp_path / "taken").mkdir()
    (taken / "letter.txt").write_text("keep me")
    given = ["--pipeline", tmp_path / "pipeline", "--classifier", tmp_path / "guide", "--evaluator", tmp_path / "none"]
    words = ["--dry-run", "--output", taken, "--test", tmp_path / "nowhere", "--ipc", 3, "--target", "steep"]
    code, out, errors = call("distill", train, *words, *given)
    assert (code, out) == (2, "")
    errors = errors[errors.index("error: ") :]  # behind the bars of what was written above
    expected = (
        "holds something that is no pool",
        "is not a readable image",
        f"there is no folder {tmp_path / 'nowhere'}",
        "fewer than 3 images, which --ipc 3 needs, of n02111889 (1)",
        "is no DiT pipeline, since it has no vae/config.json",
        "no class called",
        f"there is no model {tmp_path / 'none'}",
        "'steep'",
    )
    lines = errors.splitlines()
    assert all(line.startswith("error: ") for line in lines), errors
    for words in expected:
        assert sum(words in line for line in lines) == 1, (words, errors)
    assert len(lines) == len(expected), errors


@pytest.mark.parametrize("role", ["classifier", "evaluator"])
def test_classifier_of_other_images_is_refused_with_how_to_train_one(tmp_path, call, role):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    tiny_classifier({0: "skirt", 1: "shoe"}).save_pretrained(tmp_path / "guide")
    words = ["--dry-run", "--output", tmp_path / "set", "--ipc", 2, f"--{role}", tmp_path / "guide"]
    code, _, errors = call("distill", train, *words)
    assert code == 2
    assert "it is of other images: train one of these classes by dag-diffusion train-classifier" in errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocessing": None}, "does not say how it wants its images; put its preprocessor_config.json there"),
        ({"problem_type": "multi_label_classification"}, "is one for multi_label_classification"),
    ],
)
def test_classifier_that_measures_no_image_is_a_problem(tmp_path, changes, words):
    tiny_classifier(**changes).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words):
        classifier_names(files_of(str(tmp_path)))


def test_adapter_of_peft_is_a_problem(tmp_path):
    tiny_classifier().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert classifier_names(files_of(str(tmp_path)))[2] == "Bag"  # beside the weights it is merged into them
    (tmp_path / "model.safetensors").rename(tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="is an adapter of peft and no whole model"):
        classifier_names(files_of(str(tmp_path)))


def test_too_little_disk_or_memory_is_a_problem(tmp_path, monkeypatch):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1_000))
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    with pytest.raises(ProblemsError) as refused:
        plan_folder(train, tmp_path / "set", FolderConfig(ipc=2))
    assert [
        words
        for words in ("GB free, but models, pools and images need", "may be used here")
        if words in str(refused.value)
    ] == [
        "GB free, but models, pools and images need",
        "may be used here",
    ]


def test_class_that_cannot_be_divided_is_a_problem(tmp_path):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 2)
    with pytest.raises(ProblemsError, match=r"have too few images: some are .*; give each class 3 or more"):
        plan_folder(train, tmp_path / "set", FolderConfig(ipc=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"least": 9}, "0 of 2 classes of .* have least=9 images, but two or more are needed; lower least"),
        ({"most": 2}, "most=2 images of a class are fewer than the 3 that ipc=2 needs with those that are tested on"),
    ],
)
def test_limits_that_leave_too_little_are_problems(tmp_path, changes, words):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    with pytest.raises(ProblemsError, match=words):
        plan_folder(train, tmp_path / "set", FolderConfig(ipc=2, **changes))


@pytest.mark.parametrize(
    ("vae", "size", "words"),
    [("guide", 16, "is no AutoencoderKL and no pipeline that has one"), ("vae", 17, "such as 16 or 20")],
)
def test_vae_that_does_not_suit_is_a_problem(tmp_path, vae, size, words):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    tiny_classifier({0: "a", 1: "b"}).save_pretrained(tmp_path / "guide")
    tiny_vae().save_pretrained(tmp_path / "vae")
    with pytest.raises(ProblemsError, match=words):
        plan_folder(train, tmp_path / "set", FolderConfig(ipc=2, size=size, vae=str(tmp_path / vae)))
    plan_folder(train, tmp_path / "set", FolderConfig(ipc=2, size=16, vae=str(tmp_path / "vae")))


def test_vae_whose_configuration_is_cut_off_hides_no_other_problem(tmp_path):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    tiny_vae().save_pretrained(tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text("{")
    with pytest.raises(ProblemsError, match=r"config\.json") as refused:
        plan_folder(train, tmp_path / "set", FolderConfig(ipc=2, vae=str(tmp_path / "vae"), evaluator="nowhere/at/all"))
    assert len(refused.value.problems) == 2


def test_vae_of_other_latents_than_the_denoiser_takes_is_a_problem(tmp_path):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    tiny_pipeline().save_pretrained(tmp_path / "base")
    tiny_vae(latent_channels=8).save_pretrained(tmp_path / "vae")
    config = FolderConfig(ipc=2, base=str(tmp_path / "base"), vae=str(tmp_path / "vae"))
    with pytest.raises(ProblemsError, match=r"denoises latents of 4 channels at 1/2 .*, and this VAE makes 8 at 1/2"):
        plan_folder(train, tmp_path / "set", config)
    tiny_vae().save_pretrained(tmp_path / "vae")
    plan_folder(train, tmp_path / "set", config)


def test_classes_of_one_name_are_a_problem(tmp_path):
    write_images(tmp_path / "train", {"Cat": 8, "cat": 8}, metadata=False)
    with pytest.raises(ProblemsError, match=r"the classes 'Cat' and 'cat' in .*train have one name"):
        plan_folder(tmp_path / "train", tmp_path / "set", FolderConfig(ipc=2))


def test_plan_says_what_difficulty_is_among_and_how_classes_are_weighed(tmp_path, call):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    usual, asked = (
        dict(map(tuple, plan_folder(train, tmp_path / "set", config).tables[0].rows))
        for config in (FolderConfig(ipc=2), FolderConfig(ipc=2, among="set", balance=0.5))
    )
    assert "difficulty" not in usual
    assert asked["difficulty"] == "by the guide among the set's classes"
    assert asked["classifier"] == asked["evaluator"] == "is trained here, images weighed by balance=0.5"
    assert usual["classifier"] == asked["pipeline"] == "is trained here"
    status, shown, _ = call("run", "--dry-run", "--among", "set", "--output", tmp_path / "run")
    assert (status, "by the guide among the set's classes" in shown) == (0, True)


@pytest.fixture
def drawn_by_dit_xl(tmp_path, models):
    """A plan with the network whose rates were measured."""
    train, test = sorted_ilsvrc(tmp_path / "data")
    given = {**models, "pipeline": layouts.write_dit_xl(tmp_path / "dit-xl")}
    usual = {"ipc": 2, "test": str(test), "size": 224, "precision": "bfloat16", "network": "resnet-ap-10"}

    def plan(**changes):
        config = FolderConfig(**given, **{**usual, "protocol": "hard-label", "seeds": 2, **changes})
        return plan_folder(train, tmp_path / "out", config, batch_size=8)

    return plan


def test_time_of_pools_is_that_of_the_measured_rate_and_falls_with_the_gpus(drawn_by_dit_xl):
    table = drawn_by_dit_xl(ipc=3, pool_factor=40).tables[1]
    stages = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    seconds = (
        2
        * 3
        * 40
        * 10
        / json.loads((RESULTS / "dit-xl.json").read_text())["bfloat16, batch of 8"]["unguided"]["images_per_second"]
    )
    gpus = {"1 GPU": f"{seconds / 60:.0f} min", "8 GPUs": f"{seconds / 8:.0f} s", "64 GPUs": f"{seconds / 64:.0f} s"}
    assert stages["pools"].items() >= gpus.items()
    assert "2 cores" not in table.columns  # which nothing was measured on
    assert "pools: dit-xl.json: 4.8 images/s, batches of 8" in table.note
    trainings = stages["comparison"]
    assert trainings["work"].startswith("12 trainings of 30 images, 2,000 epochs each")
    assert "RTX 3090" in table.note
    # of more GPUs than trainings, twelve work: 360 * (60,000 / 200,000) * (224 / 256) ** 2
    assert trainings["64 GPUs"] == "83 s"


def test_steering_and_full_precision_cost_what_was_measured(drawn_by_dit_xl):
    plain, steered, full = (
        drawn_by_dit_xl(**changes).tables[1] for changes in ({}, {"target": "0.5"}, {"precision": "float32"})
    )
    assert "steered through the decoder" in steered.note
    assert "steered" not in plain.note
    assert "float32" in full.note
    assert "GPU memory" in [row[0] for row in drawn_by_dit_xl().tables[0].rows]


def test_rates_are_those_of_the_results():
    read = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in FILES}
    dit, batches = read["dit-xl"], {1: "batch of 1", 8: "batch of 8", 64: "batch of 64"}
    measured = {size: dit[f"bfloat16, {name}"]["unguided"] for size, name in batches.items()}
    measured[32] = dit["bfloat16, forms of guidance"]["unguided"]
    for size, found in measured.items():
        assert pytest.approx(found["images_per_second"], rel=2e-3) == rates.DRAWN_BY_DIT_XL[size]
        assert pytest.approx(found["peak_gib"], rel=5e-3) == rates.PEAK_GIB_OF_DIT_XL[size]
    steered = dit["bfloat16, every step"]["decoder at every guided step"]
    expected = {
        rates.DRAWN_IN_FLOAT32: dit["float32"]["unguided"]["images_per_second"],
        rates.STEERED_BY_DIT_XL: steered["images_per_second"],
        rates.PEAK_GIB_STEERED: steered["peak_gib"],
        rates.DRAWN_BY_SMALL: sorted(read["generation-networks"]["images_per_second"]["bfloat16, all steps"])[1],
        rates.LEARNT_BY_SMALL: read["training-speed"]["results"]["8"]["images_per_second"]["dag-diffusion, float32"][0],
        rates.LEARNT_BY_VAE: read["autoencoders"]["rows"][0]["images"] / read["autoencoders"]["rows"][0]["seconds"],
        rates.CONVNET_TRAINING: read["speed"]["rows"]["evaluate-quick"]["medians"]["now"] / 25,
    }
    for stage, rate in rates.LEARNT_BY.items():
        steps = read["clipart-ddim"]["expected"][stage]["steps"]
        expected[rate] = steps * 128 / read["clipart-ddim"]["seconds"][stage]
    for rate, value in expected.items():
        assert rate == pytest.approx(value, rel=5e-3)


FILES = ("dit-xl", "generation-networks", "training-speed", "autoencoders", "clipart-ddim", "speed")


def test_commands_are_understood_by_accelerate_and_by_the_command(tmp_path, call, models):
    train, test = sorted_ilsvrc(tmp_path / "my data")
    config = ["--config", EXAMPLES / "imagewoof.yaml", "--train", train, "--test", test, "--output", tmp_path / "out"]
    code, out, errors = call("run", "--dry-run", *config, *SMALL, *options(models), "--num-processes", 2)
    assert code == 0, errors
    one, eight, many = (
        shlex.split(line) for line in out.splitlines() if line.startswith(("dag-diffusion", "accelerate"))
    )
    assert not {"--dry-run", "--num-processes"} & set(one)
    assert eight == [*one, "--num-processes", "8"]
    filled = [word.replace("$RANK", "3").replace("$FIRST", "10.0.0.1") for word in many]
    launch = launch_command_parser().parse_args(filled[2:])
    assert (launch.num_processes, launch.num_machines, launch.training_script) == (64, 8, "dag_diffusion")
    assert launch.training_script_args == one[1:]
    for words in (one, eight):
        command = get_command(cli.app).commands[words[1]]
        read = command.make_context(words[1], list(words[2:]))
        assert (read.params["train"], read.params["ipc"]) == (str(train), 2)


def test_times_of_an_estimate_on_this_machine_are_shown(tmp_path):
    train = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8)
    work = work_folder(tmp_path / "set")
    assert "here" not in plan_folder(train, tmp_path / "set", FolderConfig(ipc=2)).tables[1].columns
    work.mkdir()
    config = FolderConfig(ipc=2, minutes=90, folds=2)
    (work / "distill.json").write_text(json.dumps({"folder": str(train.resolve()), **config.settings()}))
    steps = {"guide": 17, "generator": 18, "weak": 19}
    trained = {name: {"work": "", "seconds": 1, "steps": each} for name, each in steps.items()}
    (work / "plan.json").write_text(json.dumps({"pools": {"work": "40 images", "seconds": 240.0}} | trained))
    table = plan_folder(train, tmp_path / "set", config).tables[1]
    assert table.columns[2] == "here"
    assert {row[0]: row[2] for row in table.rows}["pools"] == "4 min"
    assert [row[0] for row in table.rows[:3]] == ["guide", "evaluator", "generator"]
    works = {row[0]: row[1] for row in table.rows}
    assert (works["guide"], works["generator"], works["weak"]) == ("17 steps, 3 classifiers", "18 steps", "19 steps")
    assert "minutes" not in table.note
    table = plan_folder(train, tmp_path / "other", FolderConfig(ipc=2, minutes=90)).tables[1]
    assert "for minutes=90 training gets 0.1 to 5 times as many, by the speed that is measured" in table.note


def test_of_a_model_on_the_hub_only_configurations_are_fetched(tmp_path, monkeypatch, models):
    with hub_server.serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        guide = Path(models["classifier"])
        hub.put("someone/guide", {path.name: path.read_bytes() for path in guide.iterdir()}, "models")
        files = files_of("someone/guide")
        assert len(classifier_names(files)) == 1000
        assert files.to_fetch == (guide / "model.safetensors").stat().st_size
        assert not any(path.endswith("model.safetensors") for _, path in hub.requests)
        with pytest.raises(FileNotFoundError, match="there is no someone/nothing on the Hub"):
            files_of("someone/nothing")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"someone/guide is not on this machine, and .* cannot be reached"):
        files_of("someone/guide")


def test_weak_denoiser_is_planned_or_missed(tmp_path):
    train, names = layouts.write_train(tmp_path / "train", layouts.WOOF[:2], 8), dict(enumerate(layouts.WOOF[:2]))
    for place, known in (("pipeline", names), ("other", {0: "beagle", 1: "dingo"})):
        tiny_pipeline(transformer=tiny_transformer(2), id2label=known).save_pretrained(tmp_path / place)

    def rows(**changes):
        plan = plan_folder(train, tmp_path / "set", FolderConfig(ipc=2, **changes))
        return {row[0]: row[1] for table in plan.tables for row in table.rows}

    given, other = {"pipeline": str(tmp_path / "pipeline")}, str(tmp_path / "other")
    assert rows()["weak"] == "533 steps"  # a third of the generator's
    assert rows(generator_steps=2)["weak"] == "1 steps"
    assert "weak" not in rows(**given)
    assert "on this machine" in rows(**given, weak=str(tmp_path / "pipeline"))["weak"]
    with pytest.raises(ProblemsError, match="other has other classes than the pipeline"):
        rows(**given, weak=other)
    with pytest.raises(ProblemsError, match="the pipeline has no weak denoiser"):
        rows(**given, autoguidance_scale=1.5)
    own = tiny_pipeline(transformer=tiny_transformer(2), weak_transformer=tiny_transformer(2), id2label=names)
    own.save_pretrained(tmp_path / "both")
    assert rows(pipeline=str(tmp_path / "both"))["weak"] == "the pipeline's own"
    assert "weak" not in rows(pipeline=str(tmp_path / "both"), autoguidance_scale=1.0)


def test_folder_is_given_once(tmp_path, call):
    for words in ([], [tmp_path, "--train", tmp_path]):
        code, _, errors = call("distill", *words, "--dry-run", "--output", tmp_path / "set")
        assert (code, errors.count("\n")) == (2, 1)
        assert "takes one folder of images" in errors


def test_run_on_the_embedded_default_trains_no_guide_and_knows_how_long_its_pools_take(tmp_path, call):
    status, shown, _ = call("run", "--dry-run", "--output", str(tmp_path / "run"))
    assert status == 0
    assert "the pipeline's own" in shown
    stages = [line.split("│")[1].strip() for line in shown.split("Time", 1)[1].splitlines() if line.startswith("│")]
    assert [name for name in stages if name in ("guide", "evaluator", "modes", "pools")] == ["modes", "pools"]
    assert "64.8" in shown


def test_rounds_that_the_embedded_modes_do_not_suffice_for_are_told_with_every_other_problem(tmp_path, call):
    words = ["--ipc", 60, "--rounds", 5, "--evaluator", tmp_path / "none"]
    code, out, errors = call("run", "--dry-run", "--output", tmp_path / "run", *words)
    assert (code, out) == (2, "")
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2, errors
    assert "there are 50 modes of each class" in lines[0]
    assert f"there is no model {tmp_path / 'none'}" in lines[1]


@pytest.mark.parametrize(("begun", "told"), [(1, False), (5, True)])
def test_plan_counts_the_rounds_that_a_run_was_begun_with(tmp_path, call, begun, told):
    (output := tmp_path / "run").mkdir()
    config = DistillationConfig(pool_factor=5, rounds=begun)
    (output / "run.json").write_text(json.dumps(config.settings()))
    status, shown, errors = call("run", "--dry-run", "--output", output)
    assert status == 0, errors
    assert ("students" in shown) == told, shown
