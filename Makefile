VENV ?= .venv
PYTHON ?= python3

.PHONY: demo docs test types
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(VENV)/bin/dag-diffusion run --output runs/first

test: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest

types: $(VENV)/.test
	$(VENV)/bin/mypy

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

$(VENV)/.demo: setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e .
	touch $@

$(VENV)/.test: setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e ".[dev]"
	touch $@ $(VENV)/.demo
