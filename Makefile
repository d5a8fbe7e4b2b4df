# What a newcomer runs: `make demo` and `make test`. Needs git, make and Python 3.11 or newer; no compiler, no GPU.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_SCENE := demo/scene/blocknerf_scene.json
DEMO_CITY := demo/city
DEMO_VIDEO := $(DEMO_CITY)/renders/city.mp4
# each file in one of two processes, so that what its tests share is made once; the last files are short ones
PYTEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help .venv test types tests test-lowest test-newest golden generated demo bench bench-all docs format clean
.DELETE_ON_ERROR:

help: ## this list
	@sed -nE 's/^([a-z.-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.venv: .venv/.installed-dev ## the environment with everything that tests and the demo need

.venv/bin/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "blocknerf needs Python 3.11 or newer. Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making .venv with $(PYTHON) ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv."; exit 1; }

.venv/.installed-demo: pyproject.toml | .venv/bin/python
	@echo "Installing blocknerf with [demo] into .venv (some minutes and some GB the first time: torch)"
	@$(PIP) -e '.[demo]'
	@touch $@

.venv/.installed-dev: pyproject.toml | .venv/bin/python
	@echo "Installing blocknerf with [demo,view,export,docs,ray,dev] into .venv (some minutes and some GB the first time: torch)"
	@$(PIP) -e '.[demo,view,export,docs,ray,dev]'
	@touch .venv/.installed-demo $@

test: .venv/.installed-dev ## style, import rules, types and tests; no data, network or GPU
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory --jobs=2 types tests

types: .venv/.installed-dev
	$(BIN)/pyright

tests: .venv/.installed-dev
	$(PYTEST) -m 'not slow and not real_data'

# KEEP="torch torchvision" leaves the versions of these packages to pip, for machines that have them on their disk
test-lowest: ## tests with the lowest version of each dependency that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/support/lowest_versions.py $(KEEP) > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet -c .venv-lowest/constraints.txt -e '.[demo,view,export,docs,ray,dev]'
	$(subst $(BIN),.venv-lowest/bin,$(PYTEST)) -m 'not slow and not real_data'

test-newest: ## tests with the newest versions that pyproject.toml allows, in .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[demo,view,export,docs,ray,dev]'
	$(subst $(BIN),.venv-newest/bin,$(PYTEST)) -m 'not slow and not real_data'

golden: .venv/.installed-dev ## stores the first losses of each backbone anew, after a change that is meant to change them
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.support.golden_losses

generated: .venv/.installed-dev ## what is made from the source: wording of errors, page of the configuration, tables
	$(BIN)/python -m tests.support.messages
	$(BIN)/python docs/configuration.py > docs/configuration.md.tmp && mv docs/configuration.md.tmp docs/configuration.md
	$(BIN)/python -m benchmarks.tables

demo: $(DEMO_SCENE) ## a synthetic street, its blocks trained, composited, measured and filmed, in demo/
	$(BIN)/blocknerf train --config configs/quickstart.yaml --data-root demo/scene --output-dir $(DEMO_CITY) \
		$(if $(wildcard $(DEMO_CITY)/config.json),--resume)
	$(BIN)/blocknerf render $(DEMO_CITY) --path interpolate --frames 48 --out $(DEMO_VIDEO)
	$(BIN)/blocknerf evaluate $(DEMO_CITY)
	@printf '%s\n' '' 'report  $(DEMO_CITY)/report/index.html' 'map     $(DEMO_CITY)/map.png' 'video   $(DEMO_VIDEO)'

$(DEMO_SCENE): | .venv/.installed-demo
	$(BIN)/blocknerf synth demo/scene --preset street

bench: .venv/.installed-dev ## minutes: kernels and a small training, as ratios to what is stored for this machine
	$(BIN)/python -m benchmarks.short

bench-all: .venv/.installed-dev ## hours: slow tests, real captures (BLOCKNERF_DATA=folder of captures), all figures
	$(BIN)/pytest -m 'slow or real_data' || test $$? -eq 5
	$(BIN)/python -m benchmarks.all

docs: .venv/.installed-dev ## the documentation as a site, in site/
	$(BIN)/mkdocs build --strict --quiet

format: .venv/.installed-dev ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv, demo/ and caches; your own scenes and outputs stay
	rm -rf .venv .venv-lowest .venv-newest demo build dist site .pytest_cache .ruff_cache .import_linter_cache
