"""Fine-tuning: other classes, what is trained, and that the result is an ordinary pipeline."""

import pytest
import torch
from diffusers import DiTPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import tiny_pipeline, tiny_scheduler, tiny_transformer, tiny_vae

from dag_diffusion import DifficultyGuidedPipeline
from dag_diffusion.training.fine_tuning import TUNINGS, FineTuningConfig, adapt
from dag_diffusion.training.label_tables import known_classes, label_embedders, set_classes

BIRDS = {0: "wren", 1: "Bag", 2: "owl", 3: "kite"}
TIMESTEPS = torch.tensor([3, 500])


def predictions(transformer, labels):
    latents = torch.randn(len(labels), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return transformer(latents, timestep=TIMESTEPS, class_labels=torch.tensor(labels)).sample


def learn(adaptation):
    """Change all that is trained, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in adaptation.trained():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(params=TUNINGS)
def adapted(request):
    transformer = tiny_transformer(num_layers=3)
    set_classes(transformer, len(BIRDS), {1: 2})
    return adapt(transformer, FineTuningConfig(tune=request.param))


def test_null_class_and_classes_known_by_name_predict_as_before():
    transformer = tiny_transformer(num_layers=2)
    before = predictions(transformer, [2, 3])  # Bag, and the null class of three
    kept = known_classes(BIRDS, {0: "T-shirt", 1: "Ankle boot, boot", 2: "bag"})
    set_classes(transformer, len(BIRDS), kept)
    assert kept == {1: 2}
    assert torch.equal(predictions(transformer, [1, 4]), before)


def test_classes_of_a_pipeline_without_names_are_not_taken_for_known_ones():
    assert known_classes({0: "0", 1: "1"}, None) == {}


def test_new_classes_are_there_after_saving_and_loading(tmp_path):
    transformer = tiny_transformer(num_layers=2)
    set_classes(transformer, len(BIRDS))
    tiny_pipeline(transformer=transformer, classifier=None, id2label=BIRDS).save_pretrained(tmp_path)
    loaded = DifficultyGuidedPipeline.from_pretrained(tmp_path)
    assert loaded.class_names == BIRDS
    assert loaded.null_class == len(BIRDS)
    for embedder, saved in zip(label_embedders(loaded.transformer), label_embedders(transformer), strict=True):
        assert embedder.num_classes == len(BIRDS)
        assert torch.equal(embedder.embedding_table.weight, saved.embedding_table.weight)
        assert embedder.embedding_table.weight.isfinite().all()


@settings(max_examples=20)
@given(count=st.integers(1, 9), seed=st.integers(0, 99), old=st.integers(1, 6))
def test_rows_of_new_classes_are_one_mixture_of_the_old_in_all_blocks(count, seed, old):
    transformer = tiny_transformer(old, num_layers=2, num_attention_heads=1)
    first, second = label_embedders(transformer)
    second.embedding_table.load_state_dict(first.embedding_table.state_dict())  # as in a pretrained DiT
    null = first.embedding_table.weight[-1].clone()
    set_classes(transformer, count, seed=seed)
    rows = first.embedding_table.weight
    assert rows.shape == (count + 1, 8)
    assert torch.equal(rows[-1], null)
    assert torch.equal(rows, second.embedding_table.weight)


@pytest.mark.parametrize(("count", "kept", "told"), [(0, {}, "0 classes"), (2, {0: 3}, "classes 0 to 2")])
def test_impossible_classes_are_refused(count, kept, told):
    with pytest.raises(ValueError, match=told):
        set_classes(tiny_transformer(), count, kept)


def test_weights_that_are_not_numbers_are_refused():
    transformer = tiny_transformer()
    transformer.proj_out_1.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        set_classes(transformer, 2)


def test_adapted_transformer_begins_as_it_was(adapted):
    untouched = tiny_transformer(num_layers=3)
    set_classes(untouched, len(BIRDS), {1: 2})
    assert torch.equal(predictions(adapted.transformer, [0, 4]), predictions(untouched, [0, 4]))


def test_folded_transformer_predicts_as_the_adapted_one(adapted):
    learn(adapted)
    before = predictions(adapted.transformer, [1, 4])
    adapted.fold()
    torch.testing.assert_close(predictions(adapted.transformer, [1, 4]), before, rtol=1e-5, atol=1e-5)


def test_folded_transformer_is_an_ordinary_one(adapted, tmp_path):
    learn(adapted)
    adapted.fold()
    plain = tiny_transformer(len(BIRDS), num_layers=3)
    assert list(adapted.transformer.state_dict()) == list(plain.state_dict())
    assert all(parameter.requires_grad for parameter in adapted.transformer.parameters())
    DiTPipeline(adapted.transformer, tiny_vae(), tiny_scheduler()).save_pretrained(tmp_path)
    loaded = DiTPipeline.from_pretrained(tmp_path).transformer
    assert torch.equal(predictions(loaded, [0, 4]), predictions(adapted.transformer, [0, 4]))
    assert "peft" not in (tmp_path / "transformer" / "config.json").read_text()


def test_frozen_weights_stay_frozen_after_folding():
    transformer = tiny_transformer()
    transformer.pos_embed.requires_grad_(False)
    before = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    for tune in TUNINGS:
        adapt(transformer, FineTuningConfig(tune=tune)).fold()
        assert {name for name, parameter in transformer.named_parameters() if parameter.requires_grad} == before


def test_only_what_was_asked_for_is_trained():
    width, blocks, classes = 16, 3, len(BIRDS)
    tables = blocks * (classes + 1) * width
    counts, names = {}, {}
    for tune in TUNINGS:
        transformer = tiny_transformer(classes, num_layers=blocks)
        found = dict(adapt(transformer, FineTuningConfig(tune=tune, rank=2)).trained())
        counts[tune], names[tune] = sum(one.numel() for one in found.values()), list(found)
    whole = tiny_transformer(classes, num_layers=blocks)
    assert counts["all"] == sum(one.numel() for one in whole.parameters())
    assert counts["lora"] == blocks * 2 * (4 * 2 * width + 7 * width) + tables  # q, k, v, out; and six outputs each
    vectors = sum(one.numel() for one in whole.parameters() if one.ndim == 1)
    assert counts["difffit"] == vectors + 2 * 5 * width + tables  # scales in the first two of three blocks
    assert not [name for name in names["difffit"] if name.endswith("weight") and "embedding_table" not in name]


def test_adapter_beside_a_pipeline_turns_the_base_into_it(tmp_path):
    from peft import PeftModel

    tuned, base = (tiny_transformer(num_layers=2) for _ in range(2))
    for one in (tuned, base):
        set_classes(one, len(BIRDS))
    adaptation = adapt(tuned, FineTuningConfig(tune="lora", rank=2))
    learn(adaptation)
    adaptation.save(tmp_path)
    adaptation.fold()
    PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(predictions(base, [0, 4]), predictions(tuned, [0, 4]), rtol=1e-5, atol=1e-5)


def test_what_difffit_learnt_is_written_by_name(tmp_path):
    adaptation = adapt(tiny_transformer(), FineTuningConfig(tune="difffit"))
    learn(adaptation)
    adaptation.save(tmp_path)
    found, trained = load_file(tmp_path / "difffit.safetensors"), dict(adaptation.trained())
    assert found.keys() == trained.keys()
    assert all(torch.equal(found[name], trained[name]) for name in found)


@pytest.mark.parametrize("tune", ["lora", "difffit"])
def test_weights_that_rested_in_bfloat16_come_back_in_full(tune):
    transformer = tiny_transformer(num_layers=2)
    whole = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    adaptation = adapt(transformer, FineTuningConfig(tune=tune))
    with torch.autocast("cpu", torch.bfloat16):
        full = predictions(transformer, [0, 3])
        adaptation.rest_in(torch.bfloat16)
        assert torch.equal(predictions(transformer, [0, 3]), full)
    assert all(parameter.dtype == torch.float32 for _, parameter in adaptation.trained())
    adaptation.fold(whole)
    for name, tensor in transformer.state_dict().items():
        torch.testing.assert_close(tensor, whole[name])


def test_same_seed_draws_the_same_adapter():
    drawn = [dict(adapt(tiny_transformer(), FineTuningConfig(tune="lora"), seed=seed).trained()) for seed in (0, 0, 1)]
    name = next(name for name in drawn[0] if "lora_A" in name)
    assert torch.equal(drawn[0][name], drawn[1][name])
    assert not torch.equal(drawn[0][name], drawn[2][name])


def test_global_randomness_is_left_alone():
    transformer = tiny_transformer()
    state = torch.get_rng_state()
    adapt(transformer, FineTuningConfig(tune="lora"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "told"), [({"tune": "loha"}, "choose one of all, lora, difffit"), ({"rank": 0}, "at least 1")]
)
def test_impossible_settings_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        FineTuningConfig(**options)


def test_lora_without_peft_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("dag_diffusion.training.fine_tuning.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"dag-diffusion\[lora\]"):
        FineTuningConfig(tune="lora")
