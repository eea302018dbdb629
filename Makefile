# Everything a developer or CI runs. `make check` is exactly what CI runs.

# The first interpreter that is new enough and can make an environment; override with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
ARGS ?=

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help up demo test contract check lint types format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/.runtime ## Run the whole system here, on its embedded PostgreSQL and Valkey
	@exec $(BIN)/longshore up $(ARGS)

demo: .venv/.runtime ## Run the whole flow once and show it
	@exec $(BIN)/longshore demo $(ARGS)

check: lint types test ## Everything CI runs: lint, format, types, tests

lint: .venv/.development ## Lint, and check the format
	@echo "lint"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

types: .venv/.development ## Check the types
	@echo "types"
	@$(BIN)/mypy

test: .venv/.development ## Run the tests (ARGS="-k outbox" narrows them)
	@$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

contract: .venv/.development ## Send the API over 20,000 requests that its OpenAPI document allows or forbids
	@CONTRACT_EXAMPLES=1000 $(BIN)/pytest --quiet --timeout 7200 tests/integration/api/test_api_contract.py $(ARGS)

chaos: .venv/.runtime ## Break whole systems by 200 seeds of a minute each, for hours (ARGS="--seed 7 --runs 1" for one)
	@mkdir -p .chaos
	@exec $(BIN)/longshore chaos --seed 1 --runs 200 --at-once 2 --json .chaos/verdicts.json --logs .chaos/logs $(ARGS)

format: .venv/.development ## Rewrite the code in its format
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

lock: .venv/.development ## Pin the dependencies of pyproject.toml, with hashes (ARGS=--upgrade for the newest)
	@$(COMPILE) $(ARGS) pyproject.toml --output-file requirements.lock
	@$(COMPILE) $(ARGS) --extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

clean: ## Remove the environment and the caches; the data in .longshore stays
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing (about 20 s)"
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

.venv/.development: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing, with the tools of development (about 30 s)"
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch .venv/.runtime $@

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Longshore needs Python 3.11 or newer with its venv module; name one with: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
