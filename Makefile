# Each target does its own set-up: a .venv with exactly what requirements.lock names, and uv if there is none.
# Needs: make, a POSIX shell, Python 3.11 or newer.  PYTHON=/path/to/python3 chooses another one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(VENV)/.uv/bin/uv)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

TESTS := $(BIN)/pytest --numprocesses $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup test coverage lint demo bench faults incidents collector lock

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with the locked dependencies

test: lint  ## check style and types, then run all tests (JOBS=N at a time)
	$(TESTS) || { \
		[ $$? = 1 ] && echo "Once more, alone: what failed beside other tests" >&2 && \
		$(BIN)/pytest --last-failed --last-failed-no-failures none; }

coverage: $(READY)  ## run all tests and say which lines none of them runs (a quarter slower; fails below 90 %)
	$(TESTS) --cov --cov-fail-under=90

lint: $(READY)  ## check style and types only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

demo: $(READY)  ## send orders through the reference pipeline (KEEP=1 leaves it running)
	@$(BIN)/python -m examples.order_pipeline.scenarios.demo

bench: $(READY)  ## measure (JSON=FILE also writes the figures, ONLY=PREFIX runs some)
	@$(BIN)/python -m tests.benchmarks

faults: $(READY)  ## break a ledger in every way, 100 times (ROUNDS=N for another number)
	FAULT_ROUNDS=$(or $(ROUNDS),100) $(BIN)/pytest -m fault

incidents: $(READY)  ## record the incidents that alerts are tested with, anew (40 minutes; ONLY="broker down" records one)
	@$(BIN)/python -m tests.alerts.recording $(if $(ONLY),"$(ONLY)")

collector: | $(UV)  ## build the Collector into a cache outside the tree, and say where it is (once; about 6 minutes)
	@UV=$(abspath $(UV)) collector/build

lock: | $(UV)  ## write requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
		--extra ledger --extra postgres --extra generate --extra parquet --group dev \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock

$(READY): requirements.lock pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; this is '$(PYTHON)'. Name another one: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	$(UV) venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# Into a folder of its own: allowed where Python is externally managed (PEP 668), and seen by no other program.
$(VENV)/.uv/bin/uv:
	@mkdir -p $(VENV)
	@sed -n '/^uv==/,/^[^ ]/{/^uv==/p;/^ *--hash/p;}' requirements.lock >$(VENV)/.uv.lock
	@pip="$(PYTHON) -m pip"; \
	$$pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -m venv $(VENV)/.pip >/dev/null 2>&1 && pip="$(VENV)/.pip/bin/python -m pip"; \
	} || { \
		echo "No uv and no pip: installing python3-pip with apt-get ..." >&2; \
		$(SUDO) apt-get update -q >/dev/null; $(SUDO) apt-get install -qy python3-pip >/dev/null; \
	} || { \
		echo "Install uv, or pip for '$(PYTHON)' (apt-get install python3-pip), and try again." >&2; exit 1; \
	}; \
	$$pip install --quiet --root-user-action=ignore --target $(VENV)/.uv --require-hashes --no-deps -r $(VENV)/.uv.lock
