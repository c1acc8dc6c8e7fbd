# Everything lives under .venv/ (packages) and .kash/ (data, database, Dagster's home); `make clean` removes both.
# Needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= bakery
ROUNDS ?= 1000
WORKERS ?= 3
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
export PYTHONUNBUFFERED = 1

.PHONY: help install install-dev demo ui test test-thousands chaos lint types bench shots clean

help:
	@echo "make demo            the whole chain on the sandbox shop (DATA=path for another data set)"
	@echo "make test            the whole test suite"
	@echo "make ui              Dagster's UI with the sandboxes, on http://127.0.0.1:3000"
	@echo "make lint types      ruff and import contracts; mypy, strict"
	@echo "make bench           benchmarks, as one table of ratios"
	@echo "make chaos ROUNDS=n  kill the publisher n times and compare the books"
	@echo "make test-thousands  property tests with thousands of examples"
	@echo "make clean           remove .venv/ and .kash/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "kash_pipeline needs Python 3.11 or newer; found %d.%d. Run: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# A stamp is touched last: a killed install starts again. Wheels only from the lock, checked by hash.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing the pinned packages (about a minute the first time)"
	$(PIP) install --no-deps --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "installing the test tools"
	$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

install: $(VENV)/.runtime

install-dev: $(VENV)/.dev

demo: $(VENV)/.runtime
	$(BIN)/kash-pipeline demo --data "$(DATA)"

ui: $(VENV)/.runtime
	$(BIN)/kash-pipeline ui --data "$(DATA)"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-thousands: $(VENV)/.dev
	HYPOTHESIS_PROFILE=thousands $(BIN)/python -m pytest -n $(WORKERS) kash_pipeline_tests/unit/accounting

chaos: $(VENV)/.dev
	KASH_CHAOS_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -s --timeout 0 kash_pipeline_tests/end_to_end/test_chaos.py

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m bench

shots: $(VENV)/.dev
	$(BIN)/python docs/screenshots.py

clean:
	@# A server whose users were all killed still runs: joined and left, it stops.
	@if [ -x $(BIN)/python ] && [ -d .kash/pg ]; then $(BIN)/python -c "from pathlib import Path; from kash_pipeline.warehouse import embedded; pg = Path('.kash/pg'); embedded.url_of(pg); embedded.stop(pg)"; fi
	rm -rf $(VENV) .kash .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
