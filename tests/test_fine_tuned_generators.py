"""From a pipeline and a folder of images to a pipeline of other classes: what a user sees of fine-tuning."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline
from pools_on_disk import content
from tiny import tiny_pipeline, tiny_scheduler, tiny_transformer, write_images
from tiny_training import StoppedHereError
from typer.testing import CliRunner

from dag_diffusion import DifficultyGuidedPipeline, read_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.memory import SHARE
from dag_diffusion.training import GeneratorConfig, Objective, train_generator
from dag_diffusion.training.checkpoints import work_folder
from dag_diffusion.training.fine_tuning import TUNINGS, FineTuningConfig
from dag_diffusion.training.generators.attention import SinglePrecision, suited_attention
from dag_diffusion.training.generators.bases import resolved
from dag_diffusion.training.generators.room import number_of_weights
from dag_diffusion.training.generators.training import RECORD
from dag_diffusion.training.label_tables import label_embedders
from dag_diffusion.training.loop import CHECKPOINT

CONFIG = GeneratorConfig(steps=3, batch_size=6, sample_grids=1, checkpoint_seconds=0, precision="float32")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, {"kite": 3, "bag": 4, "owl": 3, "wren": 3})
    return read_pool(folder)


@pytest.fixture(scope="module", params=TUNINGS)
def tuned(request, tmp_path_factory, images, saved_pipeline):
    output = tmp_path_factory.mktemp(request.param) / "generator"
    settings = FineTuningConfig(base=str(saved_pipeline), tune=request.param, rank=2)
    train_generator(images, output, CONFIG, fine_tuning=settings)
    return output, settings


def weights(folder):
    return {name: data for name, data in content(folder).items() if name.endswith(".safetensors")}


def stop_at(step):
    def tell(name, done, total):
        if (name, done) == ("denoiser", step):
            raise StoppedHereError

    return tell


def test_tuned_pipeline_has_the_classes_of_the_images(tuned):
    pipeline = DifficultyGuidedPipeline.from_pretrained(tuned[0])
    assert pipeline.class_names == {0: "kite", 1: "bag", 2: "owl", 3: "wren"}
    assert pipeline.null_class == 4
    assert pipeline.classifier is None
    assert pipeline(["owl"], num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 1)


def test_what_is_tuned_decides_on_the_memory_that_is_needed(tmp_path, images, saved_pipeline, monkeypatch):
    pipeline = DifficultyGuidedPipeline.from_pretrained(saved_pipeline)
    resting, trained = number_of_weights(pipeline.vae), number_of_weights(pipeline.transformer)
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: (4 * resting + 12 * trained) / SHARE)  # of 20 if all are
    settings = FineTuningConfig(base=str(saved_pipeline), tune="difffit")
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "few", CONFIG, fine_tuning=settings, progress=stop_at(1))
    with pytest.raises(ValueError, match=r"weights in training take .*or tune='difffit' of a base"):
        train_generator(images, tmp_path / "all", CONFIG, fine_tuning=replace(settings, tune="all"))


def test_tuned_pipeline_needs_diffusers_alone(tuned):
    plain = DiTPipeline.from_pretrained(tuned[0])
    assert list(plain.transformer.state_dict()) == list(tiny_transformer(4).state_dict())
    assert plain.scheduler.config.prediction_type == "epsilon"
    assert {embedder.dropout_prob for embedder in label_embedders(plain.transformer)} == {0.1}


def test_base_that_names_no_steps_keeps_those_that_suit_any_scheduler(tuned):
    assert DifficultyGuidedPipeline.from_pretrained(tuned[0]).default_num_inference_steps == 20


def test_base_hands_on_the_scale_of_guidance_and_where_it_is_on(tmp_path, images, saved_pipeline):
    base = DifficultyGuidedPipeline.from_pretrained(saved_pipeline)
    own = {"default_guidance_scale": 1.75, "default_guidance_start": 0.25, "default_guidance_stop": 0.75}
    base.register_to_config(**own)
    base.save_pretrained(tmp_path / "base")
    settings = FineTuningConfig(base=str(tmp_path / "base"), tune="difffit")
    train_generator(images, tmp_path / "tuned", CONFIG, fine_tuning=settings)
    tuned = DifficultyGuidedPipeline.from_pretrained(tmp_path / "tuned")
    assert (tuned.default_guidance_scale, tuned.default_guidance_interval) == (1.75, (0.25, 0.75))


def test_what_was_learnt_lies_beside_unless_it_is_the_whole(tuned):
    found = sorted(path.name for path in (tuned[0] / "adapter").glob("*"))
    expected = {"all": [], "lora": ["adapter_config.json", "adapter_model.safetensors"]}
    assert found == expected.get(tuned[1].tune, ["difffit.safetensors"])


def test_class_that_the_base_knew_is_told(tuned):
    assert json.loads((tuned[0] / RECORD).read_text())["fine_tuning"]["kept"] == ["bag"]


def test_stopped_fine_tuning_goes_on_to_the_same_weights(tuned, tmp_path, images):
    output, settings = tuned
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "g", CONFIG, fine_tuning=settings, progress=stop_at(1))
    train_generator(images, tmp_path / "g", CONFIG, fine_tuning=settings)
    assert weights(tmp_path / "g") == weights(output)


def test_fine_tuning_of_another_kind_is_refused_with_what_differs(tuned, images):
    output, settings = tuned
    with pytest.raises(ValueError, match=r"fine_tuning\.rank was 2 and is now 3"):
        train_generator(images, output, CONFIG, fine_tuning=replace(settings, rank=3))


def test_bfloat16_leaves_weights_that_were_not_trained_as_they_were(tmp_path, images, saved_pipeline):
    settings = FineTuningConfig(base=str(saved_pipeline), tune="difffit")
    config = replace(CONFIG, precision="bfloat16")
    found = train_generator(images, tmp_path / "g", config, fine_tuning=settings).transformer
    base = tiny_pipeline().transformer
    assert torch.equal(found.pos_embed.proj.weight, base.pos_embed.proj.weight)
    assert found.dtype == torch.float32
    assert list(work_folder(tmp_path / "g").glob("samples/*.png"))


@pytest.mark.parametrize("tuned", [True, False])
def test_training_goes_on_in_its_precision_on_a_processor_that_has_another(
    tmp_path, images, saved_pipeline, monkeypatch, tuned
):
    config = replace(CONFIG, precision="auto")
    settings = FineTuningConfig(base=str(saved_pipeline), tune="lora", rank=2)
    if not tuned:
        config, settings = replace(config, vae=str(saved_pipeline), width=64, depth=1), None

    def compute_fast(precision):
        for module in ("generators.bases", "loop"):
            monkeypatch.setattr(f"dag_diffusion.training.{module}.fast_precision", lambda device: precision)

    compute_fast("bfloat16")
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "g", config, fine_tuning=settings, progress=stop_at(2))
    compute_fast("float32")
    train_generator(images, tmp_path / "g", config, fine_tuning=settings)
    train_generator(images, tmp_path / "whole", replace(config, precision="bfloat16"), fine_tuning=settings)
    assert weights(tmp_path / "g") == weights(tmp_path / "whole")


def test_several_processes_train_in_the_precision_of_the_first(tmp_path, monkeypatch):
    bases = "dag_diffusion.training.generators.bases"
    monkeypatch.setattr(f"{bases}.fast_precision", lambda device: "float32")
    monkeypatch.setattr(f"{bases}.gather", lambda own: ["bfloat16", own])  # as in the second of two
    assert resolved("auto", torch.device("cpu"), tmp_path / CHECKPOINT) == "bfloat16"


def test_part_of_nothing_cannot_be_tuned(tmp_path, images):
    with pytest.raises(ValueError, match="base='facebook/DiT-XL-2-256'"):
        train_generator(images, tmp_path / "g", CONFIG, fine_tuning=FineTuningConfig(tune="lora"))


def test_base_of_another_size_is_refused(tmp_path, images, saved_pipeline):
    settings = FineTuningConfig(base=str(saved_pipeline))
    with pytest.raises(ValueError, match="images of 16 pixels, and size=32"):
        train_generator(images, tmp_path / "g", replace(CONFIG, size=32), fine_tuning=settings)


@pytest.mark.parametrize(("name", "wanted"), [("width", 512), ("depth", 12), ("prediction", "epsilon")])
def test_denoiser_that_is_tuned_keeps_its_shape_and_prediction(tmp_path, images, name, wanted):
    tiny_pipeline(scheduler=tiny_scheduler(prediction_type="v_prediction")).save_pretrained(tmp_path / "base")
    config, objective = CONFIG, Objective()
    if name == "prediction":
        objective = replace(objective, prediction=wanted)
    else:
        config = replace(config, **{name: wanted})
    settings = FineTuningConfig(base=str(tmp_path / "base"))
    with pytest.raises(ValueError, match=f"{name} is {wanted}, and that of .* stays as it is; leave {name} out"):
        train_generator(images, tmp_path / "g", config, objective=objective, fine_tuning=settings)


def test_autoencoder_of_other_latents_is_refused(tmp_path, images, saved_pipeline):
    wide = tiny_transformer(in_channels=8, out_channels=8)
    tiny_pipeline(transformer=wide, vae=wide_vae(), classifier=None).save_pretrained(tmp_path / "wide")
    settings = FineTuningConfig(base=str(saved_pipeline))
    config = replace(CONFIG, vae=str(tmp_path / "wide"))
    with pytest.raises(ValueError, match="latents of 4 channels at 1/2 of the size, and this VAE makes 8 at 1/2"):
        train_generator(images, tmp_path / "g", config, fine_tuning=settings)


def wide_vae():
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    size = {"block_out_channels": (4, 4), "norm_num_groups": 2, "sample_size": 16, "latent_channels": 8}
    return AutoencoderKL(in_channels=1, out_channels=1, **size, **blocks)


def test_denoiser_with_learnt_variance_is_tuned(tmp_path, images):
    base = tiny_pipeline(
        transformer=tiny_transformer(out_channels=8), scheduler=tiny_scheduler(prediction_type="epsilon")
    )
    base.save_pretrained(tmp_path / "base")
    settings = FineTuningConfig(base=str(tmp_path / "base"), tune="difffit")
    pipeline = train_generator(images, tmp_path / "g", CONFIG, fine_tuning=settings)
    assert np.isfinite(pipeline([0], num_inference_steps=2, output_type="np").images).all()


def test_minimax_from_scratch_goes_on_to_the_same_weights(tmp_path, images, saved_pipeline):
    config = replace(CONFIG, vae=str(saved_pipeline), width=64, depth=1)
    objective = Objective(kind="minimax", representativeness=1.0, diversity=1.0)
    train_generator(images, tmp_path / "whole", config, objective=objective)
    with pytest.raises(StoppedHereError):
        train_generator(images, tmp_path / "g", config, objective=objective, progress=stop_at(2))
    with pytest.raises(ValueError, match="accumulation was 1 and is now 2"):  # other parts meet other memories
        train_generator(images, tmp_path / "g", replace(config, accumulation=2), objective=objective)
    train_generator(images, tmp_path / "g", config, objective=objective)
    assert weights(tmp_path / "g") == weights(tmp_path / "whole")
    train_generator(images, tmp_path / "plain", config)
    assert weights(tmp_path / "plain") != weights(tmp_path / "whole")


def command(images, output, *options):
    small = ["--steps", 2, "--batch-size", 6, "--sample-grids", 0, "--precision", "float32", "--quiet"]
    return CliRunner().invoke(app, [str(word) for word in ("train", images.path, "--output", output, *small, *options)])


def test_command_line_tunes_and_tells_which_classes_were_known(tmp_path, images, saved_pipeline):
    result = command(
        images, tmp_path / "g", "--from", saved_pipeline, "--tune", "lora", "--rank", 2, "--objective", "minimax"
    )
    assert result.exit_code == 0, result.output
    assert f"{saved_pipeline} knew bag; this class began as there" in result.output
    assert DifficultyGuidedPipeline.from_pretrained(tmp_path / "g").class_names[3] == "wren"


def test_command_line_names_its_own_options(tmp_path, images):
    result = command(images, tmp_path / "g", "--tune", "lora")
    assert result.exit_code == 2
    assert "error: --tune lora changes a pretrained denoiser" in result.output
    assert "such as --from facebook/DiT-XL-2-256" in result.output


def test_attention_for_training_in_bfloat16_computes_what_diffusers_does():
    transformer = tiny_transformer(num_layers=2)
    latents, given = torch.randn(2, 4, 8, 8), {"timestep": torch.tensor([3, 500]), "class_labels": torch.tensor([0, 3])}
    expected = transformer(latents, **given).sample
    before = [block.attn1.processor for block in transformer.transformer_blocks]
    with suited_attention(transformer, "bfloat16", torch.device("cpu")):
        assert all(isinstance(block.attn1.processor, SinglePrecision) for block in transformer.transformer_blocks)
        torch.testing.assert_close(transformer(latents, **given).sample, expected)
    assert [block.attn1.processor for block in transformer.transformer_blocks] == before
