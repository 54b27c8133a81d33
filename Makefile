VENV ?= .venv
PYTHON ?= python3
WORKERS ?= logical

.PHONY: demo docs lint test types
.DELETE_ON_ERROR:

# What is installed is compiled when it is first imported, and kept: compiling all of it would take a minute longer.
unexport PYTHONDONTWRITEBYTECODE

demo: $(VENV)/.demo
	$(VENV)/bin/dag-diffusion run --output runs/first

# The checks run beside the tests, and show what they found after them.
test: $(VENV)/.test
	@$(MAKE) --no-print-directory --keep-going lint types > $(VENV)/checks.log 2>&1 & checks=$$!; \
	$(VENV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$checks || { cat $(VENV)/checks.log; exit 1; }; \
	exit $$tests

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(VENV)/.test
	$(VENV)/bin/mypy

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

$(VENV)/.demo: setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --no-compile -e .
	touch $@

$(VENV)/.test: setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --no-compile -e ".[dev]"
	touch $@ $(VENV)/.demo
