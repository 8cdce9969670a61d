# Two commands do everything, the environment included:
#     make demo        make test
# They need make and Python 3.11 or newer. Name an interpreter with PYTHON=/path/to/python.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
# What a candidate must be able to do: run, be new enough, and make an environment with pip.
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# The tests run in two processes, one thread each; neighbours stay together, for the sake of shared fixtures.
TEST_FLAGS ?= -n 2 --dist worksteal
QUALITY_FLAGS ?=
SPEED_FLAGS ?=
FUZZ_FLAGS ?= --seconds 30

# The oldest supported versions. PyTorch is the tested one: its older wheels for Linux come with gigabytes of CUDA; try
# them with OLDEST_TORCH=2.4.0.
OLDEST := .venv-oldest
OLDEST_TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
OLDEST_TOOLS := pytest pytest-xdist pandas onnx onnxruntime skops
OLDEST_TESTS ?= tests/test_network.py tests/test_table.py tests/training/test_fit_problems.py tests/test_sklearn_contract.py \
  tests/test_persistence.py tests/test_export.py tests/circuit/test_compile.py tests/circuit/test_lower.py \
  tests/circuit/test_onnx.py
OLDEST_FLAGS ?= -k "not spline and not cv"

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-oldest package fuzz lint format types doc benchmark-quality benchmark-speed clean distclean
.DELETE_ON_ERROR:

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.ready ## Our regressors beside familiar ones on real data: errors, gates, rules (a minute).
	$(BIN)/python examples/demo.py

test: $(VENV)/.ready ## Run every test and doctest but the slow ones.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TEST_FLAGS)

test-all: $(VENV)/.ready ## Run the slow tests as well.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TEST_FLAGS) -m "slow or not slow"

test-oldest: $(OLDEST)/.ready ## Run some of the tests with the oldest supported versions.
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest $(TEST_FLAGS) -p no:cacheprovider $(OLDEST_FLAGS) $(OLDEST_TESTS)

package: $(VENV)/.ready ## Build wheel and sdist, and try the wheel in a clean environment.
	$(BIN)/python .ci/package.py

fuzz: $(VENV)/.ready ## Send random problems through everything, for half a minute.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py $(FUZZ_FLAGS)

lint: $(VENV)/.ready ## Check style and spelling; changes nothing.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

format: $(VENV)/.ready ## Format the code and fix what can be fixed.
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

types: $(VENV)/.ready ## Check the types.
	$(BIN)/mypy

doc: $(VENV)/.ready-doc ## Build the documentation and run the example gallery.
	$(BIN)/python -m sphinx -W --keep-going -q -b html doc doc/_build/html
	@echo "documentation: doc/_build/html/index.html"

benchmark-quality: $(VENV)/.ready-benchmark ## Compare accuracy with peers: DATA=folder of data sets.
	@test -n "$(DATA)" || { echo "Name the folder of data sets: make benchmark-quality DATA=folder" >&2; exit 2; }
	$(BIN)/python benchmarks/quality.py --data "$(DATA)" $(QUALITY_FLAGS)

benchmark-speed: $(VENV)/.ready-benchmark ## Compare times with peers.
	$(BIN)/python benchmarks/speed.py $(SPEED_FLAGS)

clean: ## Remove caches and built documentation, keep the environment.
	rm -rf build dist doc/_build doc/auto_examples doc/generated doc/sg_execution_times.rst doc/sg_api_usage.rst
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find sklearn_htmc tests examples benchmarks doc -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## Remove the environment as well.
	rm -rf $(VENV) $(OLDEST)

# --- the environment: one stamp per set of extras, made anew when the requirements change ---

$(BIN)/python:
	@found=; for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c '$(SUITABLE)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No suitable Python found (tried: $(CANDIDATES))." >&2; \
	  echo "Python 3.11 or newer with the venv and ensurepip modules is needed" >&2; \
	  echo "(on Debian and Ubuntu: apt install python3 python3-venv)," >&2; \
	  echo "or name one: make PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	echo "creating $(VENV) with $$found"; \
	"$$found" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.ready: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV): PyTorch is large, the first time takes some minutes"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,plot,cluster]"
	@touch $@

$(OLDEST)/.ready: $(BIN)/python pyproject.toml constraints-oldest.txt
	@echo "installing into $(OLDEST): the oldest supported versions"
	$(BIN)/python -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt -e . torch==$(OLDEST_TORCH) $(OLDEST_TOOLS)
	@touch $@

$(VENV)/.ready-doc: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[doc]"
	@touch $@

$(VENV)/.ready-benchmark: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[benchmark]"
	@touch $@
