"""No test may reach for the internet, and every test may have a tiny pipeline."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from tiny import tiny_pipeline


@pytest.fixture
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def datasets_cache(tmp_path, monkeypatch):
    """A cache of this test's own, since ``datasets`` knows some local folders by their relative names only."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
