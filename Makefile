# palisade.egress: `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# Processes for the tests that may run side by side.
WORKERS ?= auto

COLLECTION := .cache/collections/ansible_collections/palisade/egress

# Everything finds this checkout as a collection, and keeps its state here rather than in HOME.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
export XDG_CACHE_HOME := $(CURDIR)/.cache/xdg
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

say = @echo "--- $(1)"

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

# --- setting up ---

.PHONY: system
system: ## install missing Debian packages (needs root)
	@tests/install-packages

.PHONY: venv
venv: .venv/.done $(COLLECTION) ## make the Python environment

.venv/.done: requirements/dev.txt | system
	$(call say,Python environment)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: set PYTHON")'
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@pip install -qq --disable-pip-version-check --requirement $<
	@touch $@

$(COLLECTION):
	@mkdir -p $(@D)
	@ln -sfn $(CURDIR) $@

.PHONY: requirements
requirements: ## freeze requirements/dev.in to dev.txt, with the newest versions
	@rm -rf .cache/freeze && $(PYTHON) -m venv .cache/freeze
	@.cache/freeze/bin/pip install -qq --disable-pip-version-check --requirement requirements/dev.in
	@{ echo '# Made by `make requirements` from dev.in: do not edit.'; .cache/freeze/bin/pip freeze; } >requirements/dev.txt

.PHONY: format
format: venv ## format the Python code
	@ruff check --quiet --fix-only .
	@ruff format --quiet .

.PHONY: build
build: venv ## build the collection into .build/
	@ansible-galaxy collection build --force --output-path .build

# --- checks, quickest first ---

.PHONY: check check-python check-types check-yaml check-shell check-changelog check-docs check-ansible check-sanity
check: check-python check-shell check-yaml check-changelog check-types check-docs check-ansible check-sanity ## all checks
	$(call say,all checks passed)

check-python: venv
	$(call say,ruff)
	@ruff check --quiet .
	@ruff format --quiet --check .

# mypy no longer knows Python 3.8; ruff holds the managed nodes' code to its syntax.
check-types: venv
	$(call say,mypy)
	@mypy --python-version 3.10 --package ansible_collections.palisade.egress.plugins.module_utils
	@mypy --package ansible_collections.palisade.egress.plugins.plugin_utils

check-yaml: venv
	$(call say,yamllint)
	@yamllint --strict .

check-shell: venv
	$(call say,shellcheck)
	@git ls-files --cached --others --exclude-standard | xargs awk 'FNR == 1 && /^#!.*sh$$/ { print FILENAME }' | xargs shellcheck

check-changelog: venv
	$(call say,antsibull-changelog)
	@antsibull-changelog lint

check-docs: venv
	$(call say,antsibull-docs)
	@antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all .

check-ansible: venv
	$(call say,ansible-lint)
	@ansible-lint -qq --strict

check-sanity: venv
	$(call say,ansible-test sanity)
	@tests/sanity/run

# --- tests ---

.PHONY: test test-long
test: venv ## all tests that every change must pass
	@pytest --numprocesses $(WORKERS) --durations=10 -m 'not long'
	@pytest --molecule --durations=10 molecule

test-long: venv ## everything, however long it takes
	@pytest --numprocesses $(WORKERS) --durations=10
	@pytest --molecule --durations=10 molecule

# --- benchmarks ---

.PHONY: bench
bench: venv ## measure, and write docs/benchmarks.md; QUICK=1 for a part of it
	@PYTHONPATH=.cache/collections:tests python -m bench docs/benchmarks.md
	$(call say,compiling fleets)
	@python tests/bench/compile_bench.py >>docs/benchmarks.md
	$(call say,a router)
	@PYTHONPATH=.cache/collections:tests python tests/bench/router_bench.py >>docs/benchmarks.md

# --- lab ---

# Which of molecule/*/ to run.
SCENARIO ?= default

# Molecule breaks what Ansible prints, the matrix too, at the width that it believes in.
molecule test test-long: export COLUMNS := 150

.PHONY: demo
demo: venv ## fence the lab in and show what passes
	@molecule/lab/demo.sh

.PHONY: molecule
molecule: venv ## run one scenario: SCENARIO=default
	@molecule test --scenario-name $(SCENARIO)

.PHONY: lab
lab: venv ## start the lab, without a fence
	@molecule/lab/lab.sh up

# Asks nothing of the tooling: it must work after a failure of anything.
.PHONY: clean
clean: ## remove the lab and what it left
	@molecule/lab/lab.sh clean
