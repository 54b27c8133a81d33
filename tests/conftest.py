"""No test may reach for the internet, and every test may have a tiny pipeline."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DAG_DIFFUSION_NUM_PROCESSES"] = "1"  # unless a test asks for more
os.environ["OMP_NUM_THREADS"] = "1"  # of torch, here and in what is started: as many processes as cores run tests

import pytest
from hypothesis import settings

# no test is a matter of time, and every run tries other examples, so that it need not try a hundred
settings.register_profile("quick", deadline=None, max_examples=50)
settings.load_profile("quick")

# What takes longest starts first, so that no worker of pytest-xdist is left with it when the others are done.
SLOWEST = (
    "test_faults", "test_steering", "test_hub", "test_prompt_pools", "test_own_images", "test_distillation",
    "test_generators", "test_notebooks", "test_processes", "test_shared_runs",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    order = {f"{module}.py": place for place, module in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture
def pipeline():
    from tiny import tiny_pipeline  # not above: the process that only hands out the tests needs no torch

    return tiny_pipeline()


@pytest.fixture(scope="session")
def saved_pipeline(tmp_path_factory):
    """A tiny pipeline that the command line can load."""
    from tiny import tiny_pipeline

    folder = tmp_path_factory.mktemp("tiny pipeline")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def datasets_cache(tmp_path, monkeypatch):
    """A cache of this test's own, since ``datasets`` knows some local folders by their relative names only."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
