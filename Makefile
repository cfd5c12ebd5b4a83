# Targets for a user: demo, test. For a developer: check, format.
PYTHON ?= python3
PIP_FLAGS ?=  # for example --index-url of a CPU-only or CUDA build of torch
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY = PASSIVE
export THP_MEM_ALLOC_ENABLE = 1

.PHONY: demo pretrained test slow check format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@

# Weights, priors and calibration that `pretrained` names.
PRETRAINED := src/spectramind/pretrained
pretrained: install
	$(BIN)/python -m spectramind run experiment=pretrain
	rm -rf $(PRETRAINED)
	mkdir -p $(PRETRAINED)/fit/priors $(PRETRAINED)/train $(PRETRAINED)/calibrate-temp
	cp artefacts/pretrain/fit/priors/all.safetensors $(PRETRAINED)/fit/priors/
	cd artefacts/pretrain/train && cp -r members folds.parquet train.json $(CURDIR)/$(PRETRAINED)/train/
	cp artefacts/pretrain/calibrate-temp/calibration.json $(PRETRAINED)/calibrate-temp/

demo: install
	$(BIN)/python -m spectramind run experiment=demo

# Shapes and types are checked in every call of the packages whose functions take arrays, and in
# the others by pyright alone: these checks compile each function twice.
ARRAYS := spectramind.archive,spectramind.calibrate,spectramind.diagnose,spectramind.model
ARRAYS := $(ARRAYS),spectramind.observation,spectramind.posterior,spectramind.simulate
ARRAYS := $(ARRAYS),spectramind.spectroscopy,spectramind.training,spectramind.transit
ARRAYS := $(ARRAYS),spectramind.uq
SHAPES := --jaxtyping-packages=$(ARRAYS),beartype.beartype
test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal $(SHAPES)

slow: install
	$(BIN)/python -m pytest -m slow tests/cli/test_quick_commands.py  # before it gets busy
	$(BIN)/python -m pytest -m slow $(SHAPES) --ignore=tests/cli/test_quick_commands.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell src tests benchmarks docs configs README.md CONTRIBUTING.md CHANGELOG.md
	$(BIN)/python -m spectramind config freeze experiment=demo -o params.yaml --check
	$(BIN)/python -m spectramind config dvc experiment=demo -o dvc.yaml --check
	$(BIN)/python benchmarks/tables.py --check

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf artefacts outputs multirun
