# Everything that a developer or an operator of a checkout types. Needs Python 3.11 or newer and make.
# `make` alone lists the targets. PYTHON=... chooses the interpreter of the first set-up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
HAS_UV := $(shell command -v uv 2>/dev/null)
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock"

.PHONY: help setup demo test test-slow test-browser test-oidc test-cluster campaign campaign-approvals check bench docs format lock clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with the locked dependencies; a second run does nothing.

$(READY): requirements/dev.txt pyproject.toml
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Stanch needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3 $(MAKECMDGOALS)." >&2; \
		exit 1; \
	fi
ifneq ($(HAS_UV),)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || uv venv --quiet --clear --python "$$(command -v $(PYTHON))" $(VENV)
	uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --default-pip >/dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endif
	@touch $@

demo: $(READY)  ## Replay one incident from the alert to the postmortem.
	$(BIN)/stanch demo

test: $(READY)  ## Run the fast suite; its tests wait for a third of their time, so three share two cores.
	$(BIN)/pytest -n 3 -m "not slow and not browser and not oidc and not cluster"

test-slow: $(READY)  ## Run what kills real processes or waits for real time.
	$(BIN)/pytest -m "slow and not browser and not cluster"

test-browser: $(READY)  ## Run what needs Chromium.
	$(BIN)/pytest -m browser

test-oidc: $(READY)  ## Sign in at a real identity provider, in Chromium too; installs it with npm the first time.
	$(BIN)/pytest -m oidc

test-cluster: $(READY)  ## Run what needs a Kubernetes control plane, on a real one; builds it with Go the first time.
	$(BIN)/python -m tests.control_plane $(BIN)/pytest -n 2 -m cluster

campaign: $(READY)  ## Let every action meet every answer of its provider, repeated in every way; prints the table.
	$(BIN)/python -m tests.campaigns.actions

campaign-approvals: $(READY)  ## Drive deciders and forge approvals by the thousand; LONG=1 takes half an hour.
	$(BIN)/python -m tests.campaigns $(if $(LONG),--long)

check: $(READY)  ## Run every gate but the tests: lint, format, layers, types, house rules.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_house.py

bench: $(READY)  ## Measure how fast the way of an incident is; prints a table and JSON.
	$(BIN)/python -m benchmarks

docs: $(READY)  ## Generate the reference pages from the code.
	$(BIN)/python -m docs.generate

format: $(READY)  ## Format the code and fix what can be fixed.
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

lock:  ## Pin every dependency by hash from the floors in pyproject.toml; needs uv.
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv." >&2; exit 1; }
	$(COMPILE) pyproject.toml -o requirements/base.txt
	$(COMPILE) pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml \
		| $(COMPILE) - -c requirements/dev.txt -o requirements/build.txt

clean:  ## Remove .venv and every cache; the state in .stanch stays.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
