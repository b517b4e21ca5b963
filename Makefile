# The commands of this project. `make help` lists them; .ci/run calls the same ones.
#
# The environment is made once, in .venv, from the pinned files in requirements/, and again only when those change.
# It takes Python 3.11 or newer, pip and make: nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
PIP     = $(PY) -m pip --disable-pip-version-check install --quiet --require-hashes
SELF    = $(PY) -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
# Tests run on this many processes; tests that share real processes stay together (xdist_group).
JOBS   ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The targets share one environment, so they are made one after another even under -j.
.NOTPARALLEL:

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# --- environments ------------------------------------------------------------

$(PY):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": run make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv $(VENV) \
	  || { $(PYTHON) -m venv --without-pip --clear $(VENV) && $(PYTHON) -m pip --python $(PY) install --quiet pip; }

# What the demo takes: the base install, dbt and DuckDB.
$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(PY)
	$(PIP) -r requirements/demo.txt
	$(SELF)
	@touch $@

# Everything that checks and tests take. It holds all that the demo takes, at the same versions.
$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(PY)
	$(PIP) -r requirements/dev.txt
	$(SELF)
	@touch $(VENV)/.demo $@

# --- for everybody -----------------------------------------------------------

.PHONY: demo serve
demo: $(VENV)/.demo ## Run the demo pipeline to its end, on this machine, with no account anywhere
	$(PY) -m pipelines.demo

serve: $(VENV)/.demo ## Run the service on the demo project, with the demo's vendors, until Ctrl-C
	$(PY) -m pipelines.demo --serve

# --- for contributors --------------------------------------------------------

.PHONY: check format docs docs-check test test-all lanes lock bench clean
check: $(VENV)/.dev ## Format, lint, types, layers, tidiness
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PY) -m pytest -q tests/architecture

format: $(VENV)/.dev ## Format, and mend what can be mended safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## Write docs/reference anew from the code
	$(PY) -m tools.docs

docs-check: $(VENV)/.dev ## Hold every page to the code: reference, examples, commands, links, tutorial
	$(PY) -m tools.docs --check
	$(PY) -m pytest -q tests/docs

test: $(VENV)/.dev ## The suite: real PostgreSQL, real dbt, no account, under five minutes on two cores
	$(PY) -m pytest -q -n $(JOBS) -m "not slow" --durations=10

test-all: test lanes ## The suite, then every slower lane that this machine allows

lanes: $(VENV)/.dev ## The slower lanes alone
	$(PY) tools/lanes.py

# uv (`pip install uv`) is needed for this one command only.
UV   ?= $(shell command -v uv || echo $(BIN)/uv)
LOCK  = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-strip-extras $(UPGRADE)
lock: ## Pin the requirements anew after a change in pyproject.toml (UPGRADE=--upgrade for newer versions)
	$(LOCK) requirements/build.in pyproject.toml --extra dev -o requirements/dev.txt
	$(LOCK) requirements/build.in pyproject.toml --extra dbt --extra duckdb -c requirements/dev.txt -o requirements/demo.txt
	$(LOCK) pyproject.toml -c requirements/dev.txt -o requirements/base.txt

bench: $(VENV)/.dev ## Measure against a bare loop: one table and build/bench.json, about a quarter of an hour
	$(PY) -m bench

clean: ## Remove the environment and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
