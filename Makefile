# countersign: `make run` serves the page on localhost, `make test` is what CI runs.
# Needed: make, bash and Python 3.11 or newer. Everything else goes into .venv.
#
#   PIP_ARGS   passed to pip, e.g. PIP_ARGS="--extra-index-url URL" to take CPU builds of torch from an index of your choice
#   ARGS       passed to `countersign serve`, e.g. ARGS="--port 8080"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test check format venv

BIN := .venv/bin

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: venv  ## Set up, make the model ready and serve the page on http://127.0.0.1:8000
	@$(BIN)/python -m models > /dev/null
	@$(BIN)/countersign serve $(ARGS)

test: check  ## Set up, check and run every test
	@bash scripts/test.sh

check: venv  ## Lint, format and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: venv  ## Put the code into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv:  ## Make or refresh .venv; at once when nothing changed
	@PIP_ARGS='$(PIP_ARGS)' bash scripts/venv.sh
