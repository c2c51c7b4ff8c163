# One word each; every target sets up what it needs. The plain commands are in CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow check fix bench clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/ready  ## synthetic volume -> training -> prediction -> scores and a picture, in ./demo
	$(BIN)/cleftnet demo demo --overwrite

test: $(VENV)/ready  ## everything but the slow and GPU tests
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(VENV)/ready  ## the slow tests: trainings on real tissue
	$(BIN)/python -m pytest -m "slow"

check: $(VENV)/ready  ## lint, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

fix: $(VENV)/ready  ## what can be mended by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/ready  ## ratios against a named peer or a plain restatement
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
