"""No test may reach for the internet, and every test may have a tiny pipeline."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from tiny import tiny_pipeline


@pytest.fixture
def pipeline():
    return tiny_pipeline()
