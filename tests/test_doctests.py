"""Examples in docstrings of the sampling room do what they show."""

import doctest
import importlib
import pkgutil

import pytest

from dag_diffusion import sampling

MODULES = [f"{sampling.__name__}.{found.name}" for found in pkgutil.iter_modules(sampling.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_do_what_they_show(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_public_functions_have_examples():
    finder = doctest.DocTestFinder(recurse=False)
    for name in ("select", "subsample", "as_target", "score_pool", "score_and_record"):
        assert any(test.examples for test in finder.find(getattr(sampling, name)))
