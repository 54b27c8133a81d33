"""Names of models that are nowhere are refused at once, and not after the Hub's client has tried for half a minute."""

import pytest
from huggingface_hub import constants

from dag_diffusion.classifiers import load_classifier
from dag_diffusion.latent_spaces import load_latent_space
from dag_diffusion.loading import load_pipeline, load_probe, load_text_pipeline
from dag_diffusion.training.generators.vae import load_vae

LOADERS = [load_classifier, load_latent_space, load_pipeline, load_probe, load_text_pipeline, load_vae]


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize("load", LOADERS)
def test_misspelt_folder_is_refused_without_trying_again(load, no_network, caplog):
    with pytest.raises(ValueError, match=r"runs/gide .*\(there is no such folder, .*127.0.0.1:9 does not answer"):
        load("runs/gide")
    assert "Retrying" not in caplog.text


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("name", ["runs/own/guide", "/runs/guide", "../guide"])
def test_folder_whose_name_the_hub_cannot_have_is_said_not_to_be_there(load, name):
    with pytest.raises(ValueError, match=rf"{name} .*\(there is no such folder\)"):
        load(name)


def test_hub_that_is_to_be_left_alone_is_named_as_the_reason():
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        load_classifier("runs/gide")


def test_cached_model_is_left_to_its_loader(no_network, tmp_path):
    snapshot = tmp_path / "models--runs--guide" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--runs--guide" / "refs").mkdir()
    (tmp_path / "models--runs--guide" / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text('{"model_type": "none-that-is-known"}')
    with pytest.raises(ValueError, match=r"model.type"):
        load_classifier("runs/guide")
