# Every target installs what it needs into .venv first. CONTRIBUTING.md lists the plain commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-avx2 test-slow test-oldest test-wheel mutate audit check docs notebooks package fix fuzz bench clean
.PHONY: results-cells results-gpu results-tables results-released results-quick results-synapses results-overlap results-rescaling \
	results-shift results-finetune results-workers results-monai results-synapses-large results-stack results-export results-demo

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/ready  ## train and test a small network on a synthetic volume, in ./demo
	$(BIN)/cleftnet demo demo --overwrite

test: $(VENV)/ready  ## all tests but the slow ones and those that need a GPU, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-avx2: $(VENV)/ready  ## numerical tests on the kernels of a processor without AVX-512
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -q -m "not slow and not gpu" \
		tests/nets tests/training/test_losses.py tests/training/test_golden.py tests/prediction/test_onednn.py

test-slow: $(VENV)/ready  ## slow tests: trainings on real tissue
	$(BIN)/python -m pytest -m "slow"

test-oldest: build/oldest/ready  ## tests of formats, settings and the command line with the oldest dependencies allowed
	build/oldest/bin/python -m pytest -q -m "not slow and not gpu" tests/volumes tests/cli tests/synapses \
		tests/test_settings.py tests/test_files.py tests/test_geometry.py tests/test_progress.py \
		--ignore=tests/volumes/test_ome_labels.py  # needs ome-zarr-models, which asks for a newer pydantic

build/oldest/ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/pip install -q -c constraints-oldest.txt ".[mrc,parquet,tiff,trees]" hypothesis pytest pytest-timeout
	unset PYTHONPATH; build/oldest/bin/pip uninstall -q -y cleftnet  # it is read from src
	echo "$(CURDIR)/src" > "$$(build/oldest/bin/python -c 'import site; print(site.getsitepackages()[0])')/src.pth"
	touch $@

# tests/test_packaging.py does the first half with links to installed packages instead of an install.
test-wheel: package  ## the wheel in an empty environment without src: the self-test, then with extras the tests of verbs, formats and prediction
	rm -rf build/wheel
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/pip install -q -c constraints.txt dist/*.whl
	cp -r tests pyproject.toml build/wheel
	cd build/wheel && unset PYTHONPATH && env/bin/cleftnet doctor && env/bin/python -c "import cleftnet; print(cleftnet.__file__)" | grep site-packages
	build/wheel/env/bin/pip install -q -c constraints.txt "$$(ls dist/*.whl)[mrc,parquet,tiff,trees]" \
		hypothesis ome-zarr-models psutil pytest pytest-timeout
	cd build/wheel && unset PYTHONPATH && env/bin/python -m pytest -q -m "not slow and not gpu" tests/cli/test_cli.py \
		tests/volumes tests/prediction tests/models/test_checkpoint.py tests/test_files.py

MINUTES ?= 60
mutate: $(VENV)/ready  ## what the tests catch: changed code, tested for MINUTES; survivors in build/mutation
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.mutate --minutes $(MINUTES)

audit: $(VENV)/ready  ## known vulnerabilities of the pinned versions; asks pypi.org
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install -q pip-audit
	build/audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

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

# The tables of docs/results.md, one target each. Outputs go to $(RESULTS); what was trained once is used again.
# Volumes are read from CLEFTNET_DATA (cleftnet download vnc-l3).
RESULTS ?= build/results
VNC = $$(CLEFTNET_DATA=$${CLEFTNET_DATA:-$$HOME/cleftnet-data}; echo "$$CLEFTNET_DATA/vnc-l3")
VALIDATION := 0:20,768:1024,0:768
CLEFTNET := $(BIN)/cleftnet
CHECK := $(BIN)/python -m tools.check_results

results-cells: $(VENV)/ready  ## The paper's tables and those out of fold, from the finished cells in docs/results: seconds
	$(BIN)/python -m pytest -q tests/comparison/test_published.py tests/tools/test_check_results.py

results-gpu: $(VENV)/ready  ## The tables of docs/gpu.md, from the finished measurements in docs/results/gpu: seconds
	$(BIN)/python -m pytest -q tests/tools/test_gpu_page.py

results-tables: $(VENV)/ready  ## The paper's tables: hours
	$(CLEFTNET) compare tables-vnc-l3-cpu --out $(RESULTS)/tables
	for table in "Table II. Networks on the validation set" "Related work" "Ablations beyond the paper"; do \
		$(CHECK) $(RESULTS)/tables/tables.md "$$table" --page docs/results/tables-vnc-l3-cpu/tables.md \
			--only auc f1 --tolerance 0.1 || exit 1; done

results-released: $(VENV)/ready  ## The released model: its networks out of fold, minutes
	CLEFTNET_DATA=$$(dirname "$(VNC)") $(BIN)/python -m pytest -q -m slow tests/models/test_released.py

$(RESULTS)/quick: | $(VENV)/ready
	$(CLEFTNET) train vnc-l3-quick --out $@ --resume

$(RESULTS)/quick.hdf: $(RESULTS)/quick
	$(CLEFTNET) predict $< "$(VNC)/vnc-l3.hdf" $@ --roi $(VALIDATION) --overwrite

results-quick: $(RESULTS)/quick.hdf  ## The quick recipe: 20 minutes
	$(CLEFTNET) evaluate $< "$(VNC)/vnc-l3.hdf" --sweep --json > $(RESULTS)/quick.json
	$(CHECK) $(RESULTS)/quick.json "The quick recipe" "after 1600 steps" --tolerance 0.1
	$(CHECK) $(RESULTS)/quick.json "The quick recipe" --table 2 --rows sweep.rows --by threshold --tolerance 0.1
	$(CHECK) $(RESULTS)/quick/metrics.csv "The quick recipe" --table 3 --by step --only auc f1 --tolerance 0.1

results-synapses: $(RESULTS)/quick.hdf  ## Synapses, not voxels
	$(CLEFTNET) synapses $< $(RESULTS)/tuned --tune "$(VNC)/vnc-l3.hdf" --overwrite
	$(CLEFTNET) evaluate $(RESULTS)/tuned/labels.zarr "$(VNC)/vnc-l3.hdf" --json > $(RESULTS)/tuned.json
	$(CHECK) $(RESULTS)/tuned.json "Synapses, not voxels" "0.4, tuned" --only cremi_score --tolerance 0.1

results-overlap: $(RESULTS)/quick  ## Tiles that overlap
	$(BIN)/python -m benchmarks prediction overlap --model $< --volume "$(VNC)/vnc-l3.hdf" \
		--roi $(VALIDATION) --overlaps 0 0.25 0.5 --json $(RESULTS)/overlap.json
	$(CHECK) $(RESULTS)/overlap.json "Tiles that overlap" --tolerance 0.1

results-rescaling: $(VENV)/ready  ## Voxels of another size: the cell of its network is trained first, an hour
	$(CLEFTNET) compare tables-vnc-l3-folds --out $(RESULTS)/folds --rows coarse --seeds 0
	$(BIN)/python -m benchmarks rescaling 50,4.6,4.6 50,8,8 40,4,4 60,6,6 --overlap 0.25 \
		--model $(RESULTS)/folds/cells/coarse/seed-0/fold-3/run --json $(RESULTS)/rescaling.json
	$(CHECK) $(RESULTS)/rescaling.json "Voxels of another size" --tolerance 0.1

results-shift: $(VENV)/ready  ## Gray values of another volume: half an hour, and an hour where its cell is not trained yet
	$(CLEFTNET) compare tables-vnc-l3-folds --out $(RESULTS)/folds --rows coarse --seeds 0
	$(BIN)/python -m benchmarks shift $(RESULTS)/folds --json $(RESULTS)/shift.json
	$(CHECK) $(RESULTS)/shift.json "Gray values of another volume" --tolerance 0.1

results-finetune: $(VENV)/ready  ## Corrections: two hours
	$(BIN)/python -m benchmarks finetune --out $(RESULTS)/finetuning --counts 3 8 --draws 1 --json $(RESULTS)/finetune.json
	$(CHECK) $(RESULTS)/finetune.json "Corrections of a lab" --tolerance 0.1

results-workers: $(VENV)/ready  ## A large volume: processes; a quarter of an hour
	$(BIN)/python -m benchmarks prediction workers --shape 512,1024,1024 --volume "$(VNC)/vnc-l3.hdf" \
		--patch 16,128,128 --widths 8,16,32 --max-keys 64 --overlap 0.125 --workers 1 2 \
		--json $(RESULTS)/workers.json
	$(CHECK) $(RESULTS)/workers.json "A large volume, and MONAI's sliding windows" --only speed --tolerance 0.3

results-monai: $(VENV)/ready  ## MONAI's sliding windows, on a small volume; minutes, needs monai. The large one: make bench
	$(BIN)/python -m benchmarks prediction monai --plain --shape 256,512,512 \
		--volume "$(VNC)/vnc-l3.hdf" --patch 16,128,128 --widths 8,16,32 --max-keys 64 --overlap 0.125 --batch 4 \
		--json $(RESULTS)/monai.json
	$(CHECK) $(RESULTS)/monai.json "A large volume, and MONAI's sliding windows" --table 2 --tolerance 0.3

results-synapses-large: $(VENV)/ready  ## Synapses of a large volume, and a crash: minutes
	$(BIN)/python -m benchmarks synapses --json $(RESULTS)/synapses-large.json
	$(CHECK) $(RESULTS)/synapses-large.json "Synapses of a large volume, and a crash" --only synapses
	$(CHECK) $(RESULTS)/synapses-large.json "Synapses of a large volume, and a crash" --only speed memory --tolerance 0.3
	$(BIN)/python examples/crash_demonstration.py

results-stack: $(RESULTS)/quick results-synapses  ## A stack without labels
	$(CLEFTNET) predict $< "$(VNC)/vnc-l3-stack2.hdf" $(RESULTS)/stack.hdf --overwrite
	$(CLEFTNET) synapses $(RESULTS)/stack.hdf $(RESULTS)/stack --tuned $(RESULTS)/tuned/tuning.json --overwrite \
		--json > $(RESULTS)/stack.json
	$(CHECK) $(RESULTS)/stack.json "A stack without labels" "stack 2" --tolerance 0.3

results-export: $(VENV)/ready  ## Exported models, docs/export.md: minutes
	$(BIN)/python -m benchmarks export --json $(RESULTS)/export.json
	$(CHECK) $(RESULTS)/export.json "Limits and measurements" --page docs/export.md --tolerance 0.5

results-demo: $(VENV)/ready  ## Synthetic, the demo: three minutes
	$(CLEFTNET) demo $(RESULTS)/demo --overwrite
	$(CHECK) $(RESULTS)/demo/scores.json "Synthetic, the demo" "held-out" --tolerance 0.1

fix: $(VENV)/ready  ## fix lint and format automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# SEED, INPUTS and SECONDS choose what is run: make fuzz SEED=1 INPUTS=10000 SECONDS=inf
SEED ?= 0
INPUTS ?= 100000
SECONDS ?= 600
fuzz: $(VENV)/ready  ## damaged files and odd option values for every verb, ten minutes
	$(BIN)/python -m tools.fuzzing --seed $(SEED) --inputs $(INPUTS) --seconds $(SECONDS)

bench: $(VENV)/ready  ## speed goals, as ratios to a named peer or a plain implementation: half an hour on idle cores
	$(BIN)/python -m benchmarks goals

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
