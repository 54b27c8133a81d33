"""Autoguidance: away from what a weak denoiser predicts, beside classifier-free guidance, in pipelines and pools."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_pipeline, tiny_scheduler, tiny_transformer, tiny_vae
from typer.testing import CliRunner

from dag_diffusion import DifficultyGuidedPipeline, PoolConfig, fill_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.loading import load_pipeline
from dag_diffusion.reporting.reproduction import commands_of


def weak_transformer(**changes):
    model = tiny_transformer(attention_head_dim=4, **changes)
    with torch.no_grad():
        model.proj_out_2.bias.add_(0.5)
    return model


@pytest.fixture
def guided():
    return tiny_pipeline(weak_transformer=weak_transformer())


def draw(pipeline, labels=(0, 1), **options):
    options = {"num_inference_steps": 3, "guidance_scale": 1.0, "output_type": "latent"} | options
    return pipeline(labels, generator=torch.Generator().manual_seed(0), **options).images


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_one_step_is_away_from_the_weak_denoisers_prediction(guided, guidance_scale):
    guided._guidance_scale, guided._autoguidance_scale = guidance_scale, 2.5
    latents, labels, timestep = torch.randn(2, 4, 8, 8), torch.tensor([0, 2]), torch.tensor(500)

    def asked(model, labels):
        return model(latents, timestep=timestep.expand(2), class_labels=labels).sample

    with torch.no_grad():
        found, by_class = guided.predict(latents, timestep, labels)
        strong, null = asked(guided.transformer, labels), asked(guided.transformer, torch.tensor([3, 3]))
        weak = asked(guided.weak_transformer, labels)
    expected = strong + (guidance_scale - 1) * (strong - null) + 1.5 * (strong - weak)
    torch.testing.assert_close(found, expected)
    assert by_class is None if guidance_scale == 1 else torch.allclose(by_class, strong - null, atol=1e-6)


def test_learned_variance_is_the_denoisers_own():
    pipeline = tiny_pipeline(transformer=tiny_transformer(out_channels=8), weak_transformer=weak_transformer())
    pipeline._guidance_scale, pipeline._autoguidance_scale = 1.0, 2.0
    latents, labels, timestep = torch.randn(1, 4, 8, 8), torch.tensor([0]), torch.tensor(500)
    with torch.no_grad():
        found = pipeline.predict(latents, timestep, labels)[0]
        own = pipeline.transformer(latents, timestep=timestep[None], class_labels=labels).sample
    assert torch.equal(found[:, 4:], own[:, 4:])
    assert not torch.allclose(found[:, :4], own[:, :4])


def test_weak_denoiser_that_is_as_good_changes_nothing():
    pipeline = tiny_pipeline(weak_transformer=tiny_transformer())
    torch.testing.assert_close(draw(pipeline, autoguidance_scale=4.0), draw(pipeline))


def test_target_difficulty_and_modes_go_with_it(guided):
    options = {"target_difficulty": 0.9, "modes": torch.zeros(2, 4, 8, 8), "autoguidance_scale": 2.0}
    both = draw(guided, **options)
    assert both.isfinite().all()
    for name in options:
        assert not torch.equal(both, draw(guided, **{k: v for k, v in options.items() if k != name}))


@pytest.mark.parametrize("scale", [None, 1.0, 0.5])
def test_weak_denoiser_is_not_used_unless_asked_for(guided, scale):
    assert torch.equal(draw(guided, autoguidance_scale=scale), draw(tiny_pipeline()))


def test_weak_denoiser_and_its_scale_travel_with_the_pipeline(tmp_path):
    pipeline = tiny_pipeline(weak_transformer=weak_transformer(), default_autoguidance_scale=2.0)
    pipeline.save_pretrained(tmp_path)
    again = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.default_autoguidance_scale == 2.0
    assert torch.equal(draw(again), draw(pipeline, autoguidance_scale=2.0))
    assert not torch.equal(draw(again), draw(again, autoguidance_scale=1.0))


def test_scale_of_a_pipeline_without_its_weak_denoiser_is_off():
    pipeline = tiny_pipeline(default_autoguidance_scale=2.0)
    assert torch.equal(draw(pipeline), draw(tiny_pipeline()))


@pytest.mark.parametrize(
    ("weak", "message"),
    [
        (lambda: None, "has no weak_transformer to guide away from"),
        (lambda: weak_transformer(in_channels=8), "in_channels 8 and the transformer 4"),
        (lambda: weak_transformer(sample_size=16), "sample_size 16"),
        (lambda: weak_transformer(classes=4), "num_embeds_ada_norm 4"),
        (lambda: weak_transformer().train(), "weak_transformer is in training mode"),
    ],
)
def test_weak_denoiser_that_does_not_fit_is_refused(weak, message):
    with pytest.raises(ValueError, match=message):
        draw(tiny_pipeline(weak_transformer=weak()), autoguidance_scale=2.0)


def test_scale_that_is_no_number_is_refused(guided):
    with pytest.raises(ValueError, match="autoguidance_scale is nan"):
        draw(guided, autoguidance_scale=float("nan"))


def saved(folder, **changes):
    tiny_pipeline(**changes).save_pretrained(folder)
    return folder


def test_weak_pipeline_is_read_by_name(tmp_path):
    strong, weak = saved(tmp_path / "strong"), saved(tmp_path / "weak", transformer=weak_transformer())
    loaded = load_pipeline(strong, weak=weak, device="cpu")
    expected = tiny_pipeline(weak_transformer=weak_transformer())
    assert torch.equal(draw(loaded, autoguidance_scale=2.0), draw(expected, autoguidance_scale=2.0))


def test_weak_pipeline_in_half_precision_is_known_to_have_the_same_vae(tmp_path):
    weak = tiny_pipeline(transformer=weak_transformer()).to(torch.float16)
    weak.save_pretrained(tmp_path / "weak")
    assert load_pipeline(saved(tmp_path / "strong"), weak=tmp_path / "weak", device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae": tiny_vae}, "another VAE"),
        ({"transformer": lambda: weak_transformer(sample_size=16)}, "images of another size"),
        ({"id2label": lambda: {0: "Bag", 1: "T-shirt", 2: "Ankle boot, boot"}}, "other classes .* or in another order"),
        ({"scheduler": lambda: tiny_scheduler(prediction_type="v_prediction")}, "predicts v_prediction"),
        ({"scheduler": lambda: tiny_scheduler(beta_schedule="squaredcos_cap_v2")}, "other amounts of noise"),
    ],
)
def test_weak_pipeline_whose_predictions_mean_something_else_is_refused(tmp_path, changes, message):
    made = {name: make() for name, make in changes.items()}
    if "vae" in made:
        with torch.no_grad():
            made["vae"].encoder.conv_in.weight.normal_()
    weak = saved(tmp_path / "weak", classifier=None, **made)
    with pytest.raises(ValueError, match=message):
        load_pipeline(saved(tmp_path / "strong"), weak=weak, device="cpu")


def test_pipeline_is_not_its_own_weak_one(tmp_path):
    with pytest.raises(ValueError, match="has the pipeline's own denoiser"):
        load_pipeline(saved(tmp_path / "strong"), weak=saved(tmp_path / "again"), device="cpu")


CONFIG = PoolConfig(images_per_class=2, num_inference_steps=2, guidance_scale=1.0)


def test_pool_records_scale_and_weights_and_goes_on_with_them_alone(tmp_path, guided):
    def fill(pipeline, scale):
        config = PoolConfig(images_per_class=2, num_inference_steps=2, autoguidance_scale=scale)
        return fill_pool(pipeline, tmp_path / "pool", config, resume=True)

    fill(guided, 2.0)
    record = json.loads((tmp_path / "pool/pool.json").read_text("utf-8"))
    assert record["settings"]["autoguidance_scale"] == 2.0
    assert record["weights"]["weak_transformer"]
    with pytest.raises(ValueError, match=r"autoguidance_scale was 2\.0 and is now 3\.0"):
        fill(guided, 3.0)
    with pytest.raises(ValueError, match=r"weights\.weak_transformer"):
        fill(tiny_pipeline(weak_transformer=tiny_transformer()), 2.0)


def test_pool_from_before_autoguidance_goes_on_with_a_pipeline_that_has_a_weak_denoiser_now(tmp_path):
    pool = fill_pool(tiny_pipeline(), tmp_path / "pool", CONFIG)
    path = tmp_path / "pool/pool.json"
    record = json.loads(path.read_text("utf-8"))
    del record["settings"]["autoguidance_scale"], record["weights"]["weak_transformer"]
    path.write_text(json.dumps(record), "utf-8")
    again = fill_pool(tiny_pipeline(weak_transformer=weak_transformer()), tmp_path / "pool", CONFIG, resume=True)
    assert [row["file_name"] for row in again.rows] == [row["file_name"] for row in pool.rows]


def test_command_says_that_autoguidance_was_off_where_the_pipeline_has_a_scale_of_its_own(tmp_path):
    own = saved(tmp_path / "own", weak_transformer=weak_transformer(), default_autoguidance_scale=2.0)
    pool = fill_pool(load_pipeline(own, device="cpu"), tmp_path / "pool", replace(CONFIG, autoguidance_scale=1.0))
    assert "--autoguidance-scale 1.0" in commands_of(pool.provenance)[0]


def test_command_line_draws_with_a_weak_pipeline_and_tells_how_again(tmp_path):
    strong, weak = saved(tmp_path / "strong"), saved(tmp_path / "weak", transformer=weak_transformer())
    words = ["generate", tmp_path / "pool", "--pipeline", strong, "--weak", weak, "--autoguidance-scale", 2]
    words += ["--images-per-class", 1, "--num-inference-steps", 2, "--guidance-scale", 1, "--device", "cpu", "--quiet"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    without = CliRunner().invoke(app, ["generate", str(tmp_path / "other"), "--weak", str(weak)])
    assert without.exit_code == 2
    assert "give --autoguidance-scale above 1" in without.stderr
    command = commands_of(json.loads((tmp_path / "pool/pool.json").read_text("utf-8")))[0]
    assert f"--weak {weak}" in command
    assert "--autoguidance-scale 2.0" in command
    plain = fill_pool(load_pipeline(strong, device="cpu"), tmp_path / "plain", CONFIG)
    assert "--autoguidance-scale" not in commands_of(plain.provenance)[0]
    name = plain.rows[0]["file_name"]
    assert not np.array_equal((tmp_path / "pool" / name).read_bytes(), (tmp_path / "plain" / name).read_bytes())
