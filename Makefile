# make demo: distil the digits.   make test: everything that must hold before a commit.
# make check: lint, types and the quick tests, for use while working.
# make docs: the documentation, into site/.   make results: its tables, from experiments/results.
# All make the environment in .venv first; PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST_ARGS ?=

PYTEST  := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lint types docs results clean

demo: $(VENV)/installed
	$(BIN)/dd-jax distill

test: lint types
	$(PYTEST) $(PYTEST_ARGS)

check: lint types
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-test
	$(BIN)/mypy dd_jax experiments

results: $(VENV)/installed
	$(BIN)/python experiments/published.py

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html."

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dd_jax needs Python 3.11 or newer, but $(PYTHON) is `$(PYTHON) --version 2>&1`. Try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) .cache build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
