# Everything a person does with a checkout; needs Python 3.11 or newer, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
INSTALLED_TO_TRAIN := $(VENV)/installed-to-train
CONFIG ?= examples/speaker_listener.yaml
N ?= 1000000
MINUTES ?= 20
SEED ?= 0
GPU_OUT ?= gpu.json
# Tests run in as many processes as there are cores; JOBS=0 runs them in one, as a debugger wants it.
JOBS ?= logical

# One thread a process: actors and learner share the cores among themselves.
export OMP_NUM_THREADS ?= 1

# Python keeps what it has compiled: tests start hundreds of processes, each of which would compile covey again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv train check check-style check-learning check-others
.PHONY: test test-learning test-engines fuzz chaos lint bench results protos docs dist gpu gpu-wheels

help:
	@echo "make train    train $(CONFIG); CONFIG=FILE for another job, ARGS='--set section.key=value' for more"
	@echo "make venv     install everything that development needs into $(VENV); make train installs less"
	@echo "make check    style, types and the tests that start no process: what one runs while working"
	@echo "make test     run all tests but the two kinds that follow; ARGS='tests/shared -x' a part of them"
	@echo "make test-learning    run the longest: training in every environment that covey is tested with"
	@echo "make test-engines     run those that start other people's engines or make environments of their own"
	@echo "make fuzz     N=$(N) hostile inputs over all decoders, and hostile calls of a learner; prints JSON"
	@echo "make chaos    train for MINUTES=$(MINUTES) while everything fails, then compare both sides; KILLS=50: only learner kills"
	@echo "make lint     style, types, freshness of generated files"
	@echo "make bench    run the benchmarks and write docs/benchmarks.md; PEER=PYTHON compares with the AgileRL that it has (also PEER_SB3, PEER_JAX)"
	@echo "make gpu      on a machine with an NVIDIA GPU and torch: tests and benchmarks on it, into $(GPU_OUT); docs/gpu.md"
	@echo "make gpu-wheels       fill wheels/ for that, on a machine with a network"
	@echo "make results  write docs/results.md from docs/results.json"
	@echo "make protos   compile proto/covey/v1 into shared/covey/v1"
	@echo "make docs     write docs/configuration.md from the configuration's models"
	@echo "make dist     build the source distribution and the wheel into dist/, and check them"

# What an installation is made of; the last one has the version.
INSTALLED_FROM := pyproject.toml constraints.txt shared/covey/__init__.py

# One environment in two sizes: what training needs, and that with the developers' tools, which `make venv` adds.
# constraints.txt decides every version; the larger environment is enough to train.
venv: $(INSTALLED)

# pip is the last that making an environment brings, so one that was interrupted is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	    sys.exit(v < (3, 11) and "covey needs Python 3.11 or newer, this is %d.%d: make PYTHON=..." % v[:2])'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED_TO_TRAIN): $(INSTALLED_FROM) | $(BIN)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[learner,mpe]'
	touch $@

$(INSTALLED): $(INSTALLED_FROM) | $(BIN)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[learner,mpe,games,bench,plots,page,dev]'
	touch $(INSTALLED_TO_TRAIN) $@

train: $(INSTALLED_TO_TRAIN)
	$(BIN)/covey train $(CONFIG) $(ARGS)

# Two jobs keep two cores busy. Types are mypy's, which remembers what it has read; make lint has pyright's too.
check: venv
	@$(MAKE) --no-print-directory --keep-going --jobs=2 check-learning check-style check-others

UNIT_TESTS := COVEY_HYPOTHESIS=dev $(BIN)/python -m pytest -q -m "unit and not slow"

check-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two halves, about as long as each other: with torch and without.
WITH_TORCH := $(addprefix tests/server/,algorithms api experience packing)

check-learning:
	$(UNIT_TESTS) $(WITH_TORCH)

check-others:
	$(UNIT_TESTS) $(addprefix --ignore=,$(WITH_TORCH) tests/system)

test test-learning test-engines: export COVEY_HYPOTHESIS ?= ci

# Each process takes from the other what that has not begun, so both end at about the same time.
test: venv
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-learning: venv
	$(BIN)/python -m pytest -m learning $(ARGS)

test-engines: venv
	$(BIN)/python -m pytest -m engines $(ARGS)

fuzz: venv
	$(BIN)/python -m tests.fuzz $(N)

chaos: venv
	$(BIN)/python -m tests.chaos $(if $(KILLS),--kills $(KILLS),--minutes $(MINUTES)) --seed $(SEED)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python proto/generate.py --check
	$(BIN)/covey schema --format markdown --check docs/configuration.md
	$(BIN)/python -m benchmarks.pages.results --check
	$(BIN)/python -m benchmarks.pages.benchmarks --check

# One thread a process and nothing else running: see benchmarks/README.md. A failed benchmark is in the page too.
bench: venv
	@status=0; $(BIN)/python benchmarks/suite.py $(ARGS) || status=$$?; $(BIN)/python -m benchmarks.pages.benchmarks; exit $$status

# Without a network and without an environment of its own: PYTHON is one that has torch, wheels/ has all else.
gpu:
	$(PYTHON) -m benchmarks.gpu.run --out $(GPU_OUT) $(ARGS)

gpu-wheels: venv
	$(BIN)/python -m benchmarks.gpu.wheels wheels

results: venv
	$(BIN)/python -m benchmarks.pages.results

protos: venv
	$(BIN)/python proto/generate.py

docs: venv
	page="$$($(BIN)/covey schema --format markdown)" && printf '%s\n' "$$page" > docs/configuration.md

# The wheel is built from the source distribution, which therefore has all that building needs.
dist: venv
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m tests.support.distributions dist
