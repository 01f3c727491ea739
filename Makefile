# make repro | test | check | bench | clean
#
# Needs Python 3.11-3.13, git and GNU make; everything else goes into .venv. Another Python:
# `make repro PYTHON=python3.12`.

PYTHON ?= python3

.DEFAULT_GOAL := help
# `make -j` would run the pipeline and the tests at once, in one working tree.
.NOTPARALLEL:
.PHONY: help repro test check bench clean .venv

# Relative names only: make splits absolute ones at spaces.
BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install
LOCK := -c requirements/constraints.txt
# dvc.yaml says `python`, which must be the environment's.
ON_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"

help:
	@echo "make repro   install, run the pipeline, print the results table"
	@echo "make test    install, run all tests"
	@echo "make check   install, then lint, types and the artifacts present"
	@echo "make bench   install, measure the speed of every work against a plain version;"
	@echo "             make bench ONLY=t5_training measures one work, ONLY='a b' two"
	@echo "make clean   remove .venv and all that can be made again; DVC's cache stays"

repro: $(INSTALLED)
	$(ON_PATH) dvc repro
	@echo
	@cat metrics/results.md

test: $(INSTALLED)
	$(ON_PATH) python -m pytest

check: $(INSTALLED)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	@if [ -d artifacts ]; then $(BIN)/python -m stages check; \
	else echo "no artifacts to check; 'make repro' makes them"; fi

bench: $(INSTALLED)
	$(ON_PATH) python -m benchmarks $(ONLY)

clean:
	rm -rf .venv artifacts scratch metrics/cells
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv: $(INSTALLED)

# The stamp is written last: an install that failed runs again.
#
# The project itself is installed editable so that `pytest` and editors find it. The pipeline
# does not use that: `python -m stages` puts the working directory first on the path, so that a
# queued experiment runs the code of its own copy (tests/contract/test_stages.py).
# The build backends come from the constraints too, hence no build isolation: hatchling builds this
# project, setuptools what is published as source only (antlr4-python3-runtime, of DVC); Python
# 3.11's own setuptools cannot.
$(INSTALLED): pyproject.toml requirements/constraints.txt requirements/embedded.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "PYTHON=$(PYTHON) is `$(PYTHON) --version 2>&1`: Python 3.11, 3.12 or 3.13 is needed;" \
	    "name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) $(LOCK) hatchling editables setuptools
	$(PIP) $(LOCK) --no-build-isolation -e ".[dev]"
	$(PIP) --no-deps --require-hashes -r requirements/embedded.txt
	@touch $(INSTALLED)
