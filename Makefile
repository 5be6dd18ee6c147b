# The project's commands. Each can be run again and again, and is quick when there is nothing to do.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

venv := .venv
python := $(venv)/bin/python
vre := $(venv)/bin/vre
install := $(python) -m pip install --quiet --disable-pip-version-check
digest = $(shell cat $(1) | sha256sum | cut -c1-16)

# Stamps are named after what the locks say, so that a fresh checkout with the same locks does nothing.
base := $(venv)/.base-$(call digest,requirements/base.txt pyproject.toml build/bootstrap.sh)
develop := $(venv)/.develop-$(call digest,requirements/develop.txt)

tests := tests/machine tests/unit tests/engine
# The machines in one process, all else in the other: either leaves a processor idle half of the time.
together := --numprocesses 2 --no-loadscope-reorder
report := --durations=15 --durations-min=1

.PHONY: help setup up down test test-all unit bench check format lock generate clean

help: ## Show these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf 'make %-10s %s\n' "$$name" "$$text"; done

setup: $(base) ## Prepare this machine: host packages, engine, keys, programs, disk image
	@$(vre) setup

up: $(base) ## Set up what is missing and launch the stack `local`
	@$(vre) up

down: $(base) ## Destroy the stack `local` and leave nothing behind
	@$(vre) down $$([ -t 0 ] || echo --yes)

test: setup check ## Run all tests but the longest drills
	@$(vre) setup software
	@$(python) -m pytest $(tests) $(together) $(report)

test-all: setup check ## Run all tests, the longest drills too
	@$(vre) setup software
	@$(python) -m pytest $(tests) --drills $(together) $(report)

unit: check ## Check style and types, run the tests of a few minutes, without engine and machines
	@$(python) -m pytest --quiet tests/unit

bench: setup $(develop) ## Measure speed and size; results in docs/benchmarks*.md
	@$(vre) setup software
	@$(python) -m tests.bench
	@$(python) -m tests.bench_clouds
	@$(python) -m tests.bench_image

check: $(develop) ## Check style and types
	@$(venv)/bin/ruff check .
	@$(venv)/bin/ruff format --check .
	@$(venv)/bin/mypy

format: $(develop) ## Put the code into its usual form
	@$(venv)/bin/ruff check --fix .
	@$(venv)/bin/ruff format .

lock: $(develop) ## Pin every Python package by version and hash
	@build/lock.sh $(venv)/bin/uv

generate: $(base) ## Write the files that are made from others: schema, stack-file.md, requirements.md
	@$(vre) generate

clean: ## Remove the cache of built programs and images; running stacks stay
	@if [ -x $(vre) ]; then $(vre) clean; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(base):
	@build/bootstrap.sh
	@$(python) -c '' 2>/dev/null || python3 -m venv --clear $(venv)
	@echo "… Python packages of the project"
	@$(install) --require-hashes --requirement requirements/base.txt
	@$(install) --no-deps --no-build-isolation --editable .
	@rm -f $(venv)/.base-*
	@touch $@

$(develop): | $(base)
	@$(vre) setup packages test-packages
	@echo "… Python packages for the tests"
	@$(install) --require-hashes --no-build-isolation --requirement requirements/develop.txt
	@rm -f $(venv)/.develop-*
	@touch $@
