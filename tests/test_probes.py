"""Probes: they learn what guides say, steer without the decoder, travel with the pipeline, and fit only their own."""

from dataclasses import replace

import pytest
import torch
from tiny import NAMES, tiny_classifier, tiny_pipeline, tiny_vae

from dag_diffusion import DifficultyGuidedPipeline, GuidanceConfig
from dag_diffusion.difficulty import margin
from dag_diffusion.generation.preparing.outputs import require_place_for_probe, save_probe
from dag_diffusion.generation.preparing.probe_training import (
    Fidelity,
    ProbeConfig,
    build_probe,
    distillation_loss,
    fidelity,
    logits_of,
    train_probe,
)
from dag_diffusion.generation.preparing.trajectories import Trajectories, collect, record_of_runs
from dag_diffusion.guidance.difficulty_guidance import margin_and_gradient
from dag_diffusion.guidance.probes import probe_margin
from dag_diffusion.loading import load_probe

SMALL = ProbeConfig(
    trajectories=40,
    num_inference_steps=4,
    guidance_scale=1.0,
    training_steps=60,
    batch_size=32,
    hidden_sizes=(8,),
    depths=(1,),
)


@pytest.fixture(scope="module")
def trained():
    """A pipeline with a probe of its guide, and the probe's fidelity."""
    pipeline = tiny_pipeline()
    probe, found = train_probe(pipeline, [pipeline.classifier], SMALL, batch_size=10)
    return tiny_pipeline(probe=probe), found


def draw(pipeline, target=0.9, **options):
    generator = [torch.Generator().manual_seed(i) for i in range(2)]
    options = {"num_inference_steps": 10, "guidance_scale": 1.0, "generator": generator, "output_type": "pt"} | options
    return pipeline([0, 1], target, **options)


def test_training_brings_the_probe_nearer_to_its_guide():
    pipeline = tiny_pipeline()
    seen = collect(pipeline, [pipeline.classifier], SMALL, batch_size=10)
    probe, found = train_probe(pipeline, [pipeline.classifier], SMALL, batch_size=10)
    untrained = build_probe(pipeline, SMALL).eval()
    losses = [distillation_loss(logits_of(p, seen), seen) for p in (untrained, probe)]
    assert losses[1] < 0.8 * losses[0]
    assert 0 <= found.difficulty_error <= 1


def test_same_seed_gives_the_same_probe(trained):
    pipeline = tiny_pipeline()
    torch.manual_seed(99)  # the global generator has no say
    again, _ = train_probe(pipeline, [pipeline.classifier], SMALL, batch_size=10)
    for first, second in zip(trained[0].probe.parameters(), again.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-5)


def test_trajectories_hold_every_step_of_every_run_and_exact_margins():
    pipeline = tiny_pipeline()
    seen = collect(pipeline, [pipeline.classifier], SMALL, batch_size=10)
    assert len(seen) == SMALL.trajectories * SMALL.num_inference_steps
    guide = pipeline.guide(pipeline.classifier, seen.labels.tolist())
    with torch.no_grad():
        images = pipeline.decode_for_guidance(seen.clean.float())
        exact = margin(pipeline.classifier(guide.preprocessing(images)).logits, guide.labels)
    assert torch.allclose(seen.margins, exact, atol=0.05)  # clean samples are kept in half precision
    assert torch.allclose(margin(seen.log_probabilities, seen.labels), exact, atol=0.05)


def test_classes_that_only_the_guide_knows_stay_in_the_margin():
    pipeline = tiny_pipeline(classifier=tiny_classifier({**NAMES, 3: "Coat", 4: "Dress"}))
    seen = collect(pipeline, [pipeline.classifier], SMALL, batch_size=20)
    assert torch.allclose(seen.log_probabilities.exp().sum(1), torch.ones(len(seen)), atol=1e-4)
    assert seen.log_probabilities[:, -1].exp().max() > 0.01


def test_only_the_classes_asked_for_are_drawn():
    pipeline = tiny_pipeline()
    assert set(collect(pipeline, [pipeline.classifier], SMALL, labels=[2]).labels.tolist()) == {2}


def test_several_guides_are_averaged(monkeypatch):
    pipeline, other = tiny_pipeline(), tiny_classifier()
    monkeypatch.setattr(
        "dag_diffusion.generation.preparing.trajectories.UNGUIDED", 1
    )  # so that who guides does not change what is seen
    with torch.no_grad():
        other.classifier[-1].weight.neg_()
    first, second, both = (
        collect(pipeline, guides, SMALL, batch_size=40)
        for guides in ([pipeline.classifier], [other], [pipeline.classifier, other])
    )
    for name in ("margins", "log_probabilities"):
        mean = (getattr(first, name) + getattr(second, name)) / 2
        assert torch.allclose(getattr(both, name), mean, atol=1e-4)


def test_guide_that_knows_only_the_classes_drawn_will_do():
    pipeline = tiny_pipeline(classifier=tiny_classifier({0: "Bag", 1: "T-shirt"}))
    seen = collect(pipeline, [pipeline.classifier], SMALL, labels=[0, 2], batch_size=40)
    assert set(seen.labels.tolist()) == {0, 2}
    assert torch.allclose(seen.log_probabilities.exp().sum(1), torch.ones(len(seen)), atol=1e-4)


def test_margin_of_the_probe_is_differentiable_and_depends_on_the_signal_rate(trained):
    clean, labels = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    early, gradient = margin_and_gradient(clean, probe_margin(trained[0].probe, labels, 0.01))
    late, _ = margin_and_gradient(clean, probe_margin(trained[0].probe, labels, 0.99))
    assert gradient.flatten(1).norm(dim=1).min() > 0
    assert not torch.allclose(early, late)


def test_only_the_decoded_steps_ask_decoder_and_guide(trained, monkeypatch):
    pipeline, calls = trained[0], []
    real = type(pipeline).decode_for_guidance
    monkeypatch.setattr(type(pipeline), "decode_for_guidance", lambda self, x: calls.append(1) or real(self, x))
    draw(pipeline, difficulty_guidance=GuidanceConfig(decoded_steps=3))
    assert len(calls) == 3
    draw(pipeline, difficulty_guidance=GuidanceConfig(decoded_steps=0))
    assert len(calls) == 3


def test_probe_alone_steers(trained):
    config = GuidanceConfig(decoded_steps=0, max_norm=1.0)
    labels, generator = [0, 1] * 12, torch.Generator().manual_seed(0)
    options = {"num_inference_steps": 10, "guidance_scale": 1.0, "output_type": "latent"}
    noise = torch.randn(24, 4, 8, 8, generator=generator)
    easy, hard = (
        trained[0](labels, target, latents=noise, difficulty_guidance=config, **options).images
        for target in (0.02, 0.98)
    )
    margins = [probe_margin(trained[0].probe, torch.tensor(labels), 1.0)(latents) for latents in (easy, hard)]
    assert margins[0].mean() > margins[1].mean()


def test_probe_changes_nothing_without_a_target(trained):
    assert torch.equal(draw(trained[0], None).images, draw(tiny_pipeline(), None).images)


def test_probe_travels_with_the_pipeline(trained, tmp_path):
    trained[0].save_pretrained(tmp_path)
    again = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(draw(again).images, draw(trained[0]).images)


def test_probe_can_be_left_out_on_load(trained, tmp_path):
    trained[0].save_pretrained(tmp_path)
    assert DifficultyGuidedPipeline.from_pretrained(tmp_path, probe=None).probe is None


def test_saved_probe_is_safetensors_and_reads_back(trained, tmp_path):
    save_probe(trained[0].probe, tmp_path / "a probe")
    assert sorted(p.name for p in (tmp_path / "a probe").iterdir()) == ["config.json", "model.safetensors"]
    again = load_probe(tmp_path / "a probe")
    assert torch.equal(draw(tiny_pipeline(probe=again)).images, draw(trained[0]).images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae": None}, "another VAE"),
        ({"id2label": {0: "T-shirt", 1: "Bag", 2: "Ankle boot, boot"}}, "another classes"),
        ({"classifier": None}, "another guide"),
    ],
)
def test_probe_of_another_pipeline_is_refused(trained, changes, message):
    if "vae" in changes:
        changes = {"vae": tiny_vae()}
        with torch.no_grad():
            for parameter in changes["vae"].parameters():
                parameter.mul_(1.5)
    if "classifier" in changes:
        changes = {"classifier": tiny_classifier()}
        with torch.no_grad():
            changes["classifier"].classifier[-1].weight.mul_(2)
    with pytest.raises(ValueError, match=message):
        draw(tiny_pipeline(probe=trained[0].probe, **changes))


def test_model_that_is_no_probe_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train_probe has not made"):
        draw(tiny_pipeline(probe=tiny_classifier()))
    tiny_classifier().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="but another model"):
        load_probe(tmp_path)
    with pytest.raises(ValueError, match="holds no probe"):
        load_probe(tmp_path / "nothing")


def test_probe_of_some_classes_is_refused_for_others():
    pipeline = tiny_pipeline()
    probe, _ = train_probe(pipeline, [pipeline.classifier], SMALL, labels=["T-shirt", 1], batch_size=20)
    known = tiny_pipeline(probe=probe)
    draw(known)
    with pytest.raises(ValueError, match=r"not for \[2\]"):
        known([2], 0.5, num_inference_steps=10, guidance_scale=1.0)


def test_runs_that_measure_are_not_those_that_train(monkeypatch):
    seen, perfect = {}, Fidelity(difficulty_error=0, correlation=1)
    monkeypatch.setattr(
        "dag_diffusion.generation.preparing.probe_training.fit",
        lambda probe, found, *rest: seen.update(fit=set(found.run.tolist())),
    )
    monkeypatch.setattr(
        "dag_diffusion.generation.preparing.probe_training.fidelity",
        lambda probe, found: seen.update(measured=set(found.run.tolist())) or perfect,
    )
    pipeline = tiny_pipeline()
    train_probe(pipeline, [pipeline.classifier], SMALL, batch_size=17)
    assert not seen["fit"] & seen["measured"]
    assert len(seen["fit"] | seen["measured"]) == SMALL.trajectories
    assert len(seen["measured"]) == SMALL.trajectories // 10


def test_samples_that_are_not_finite_are_left_out(monkeypatch):
    pipeline = tiny_pipeline()
    real = type(pipeline).decode_for_guidance

    def broken(self, latents):
        images = real(self, latents)
        images[0] = float("nan")
        return images

    monkeypatch.setattr(type(pipeline), "decode_for_guidance", broken)
    found = collect(pipeline, [pipeline.classifier], SMALL, batch_size=10)
    assert len(found) == SMALL.trajectories * SMALL.num_inference_steps * 9 // 10
    assert torch.isfinite(found.log_probabilities).all()


def test_nothing_finite_to_learn_from_is_an_error_with_the_way_out(monkeypatch):
    pipeline = tiny_pipeline()
    nothing = torch.full((2, 1, 16, 16), float("nan"))
    monkeypatch.setattr(
        type(pipeline), "decode_for_guidance", lambda self, x: nothing[:1].expand(len(x), -1, -1, -1) + 0 * x.sum()
    )
    with pytest.raises(FloatingPointError, match="float32 or bfloat16"):
        train_probe(pipeline, [pipeline.classifier], SMALL)


def test_record_of_runs_tells_an_interval_of_guidance_only_where_there_is_one():
    """So that runs go on whose record is from before there was one."""
    pipeline, own = tiny_pipeline(), []
    for start in (None, 0.25):
        pipeline.register_to_config(default_guidance_start=start)
        own.append(record_of_runs(pipeline, [pipeline.classifier], SMALL, None, 4)["own"])
    assert own[1] == own[0] | {"default_guidance_start": 0.25}
    assert not {"default_guidance_start", "default_guidance_stop"} & set(own[1]) - {"default_guidance_start"}
    assert "default_guidance_start" not in own[0]


def test_runs_are_of_the_pipelines_own_steps_and_scale(monkeypatch):
    pipeline, scales = tiny_pipeline(), []
    pipeline.register_to_config(default_num_inference_steps=3, default_guidance_scale=1.0)
    real = type(pipeline).predict
    monkeypatch.setattr(
        type(pipeline),
        "predict",
        lambda self, *given, **more: scales.append(self.guidance_scale) or real(self, *given, **more),
    )
    found = collect(pipeline, [pipeline.classifier], replace(SMALL, num_inference_steps=None, guidance_scale=None))
    assert len(found) == 3 * SMALL.trajectories
    assert set(scales) == {1.0}


def test_few_runs_for_many_classes_are_told(caplog):
    pipeline = tiny_pipeline()
    collect(pipeline, [pipeline.classifier], SMALL, batch_size=40)
    assert "40 sampling runs for 3 classes are few" in caplog.text


def test_classifier_is_no_probe_to_be_replaced(tmp_path):
    tiny_classifier().save_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match="no probe"):
        require_place_for_probe(tmp_path)


def test_other_files_are_never_replaced(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no probe"):
        require_place_for_probe(tmp_path)
    save_probe(trained[0].probe, tmp_path / "probe")
    require_place_for_probe(tmp_path / "probe")


def test_what_a_killed_save_has_left_goes_with_the_next(trained, tmp_path):
    (tmp_path / ".probe.partial").mkdir()
    (tmp_path / ".probe.partial" / "model.safetensors").write_bytes(b"half")
    save_probe(trained[0].probe, tmp_path / "probe")
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]
    load_probe(tmp_path / "probe")


def test_no_guide_and_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="at least one classifier"):
        train_probe(tiny_pipeline(), [], SMALL)
    with pytest.raises(ValueError, match="trajectories=3"):
        ProbeConfig(trajectories=3)
    with pytest.raises(ValueError, match="differ in length"):
        ProbeConfig(depths=(1, 2, 3))


def test_fidelity_of_a_perfect_probe_is_perfect():
    logits = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    labels, runs = torch.arange(60) % 3, torch.arange(60)
    seen = Trajectories(
        clean=torch.zeros(60, 4, 8, 8),
        signal=torch.linspace(0, 1, 60),
        labels=labels,
        margins=margin(logits, labels),
        log_probabilities=logits.log_softmax(1),
        run=runs,
    )

    class Perfect(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, inputs):
            rows = (inputs[:, -1, 0, 0] * 59).round().long()
            return type("Output", (), {"logits": logits[rows]})

    found = fidelity(Perfect(), seen)
    assert found.difficulty_error == pytest.approx(0, abs=1e-6)
    assert found.correlation == pytest.approx(1)
