# Every target installs what it needs into .venv first. CONTRIBUTING.md lists the plain commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-avx2 test-slow check docs notebooks package fix bench clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/ready  ## train and test a small network on a synthetic volume, in ./demo
	$(BIN)/cleftnet demo demo --overwrite

test: $(VENV)/ready  ## all tests but the slow ones and those that need a GPU
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-avx2: $(VENV)/ready  ## numerical tests on the kernels of a processor without AVX-512
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -q -m "not slow and not gpu" \
		tests/nets tests/training/test_losses.py tests/training/test_golden.py tests/prediction/test_onednn.py

test-slow: $(VENV)/ready  ## slow tests: trainings on real tissue
	$(BIN)/python -m pytest -m "slow"

check: docs  ## lint, types, import contracts, spelling, the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: $(VENV)/ready  ## the documentation as a site in build/site; broken links and wrong docstrings are errors
	PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

notebooks: $(VENV)/ready  ## run the notebooks of the documentation, and keep their outputs
	CLEFTNET_PROGRESS=0 $(BIN)/jupyter-execute --inplace docs/notebooks/*.ipynb

package: $(VENV)/ready  ## wheel and source archive in dist/, their metadata and file list checked
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

fix: $(VENV)/ready  ## fix lint and format automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/ready  ## benchmarks: ratios against a named peer or a plain implementation
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
