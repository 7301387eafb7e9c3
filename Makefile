# Every target sets up what it needs. Another interpreter: make setup PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed
ARGS ?=
# The first of these is what `make train` runs.
# task: separation
EXPERIMENT ?= separation/polsess_quick
# end task
# task: emotion
EXPERIMENT ?= emotion/msp_wavlm_category
# end task
# task: pretraining
EXPERIMENT ?= pretraining/esc50_quick
# end task
# `make sweep` searches the space of the experiment's task with this name.
SEARCH ?= $(firstword $(subst /, ,$(EXPERIMENT)))/quick

.DEFAULT_GOAL := help
.PHONY: help setup train eval predict listen sweep leaderboard test test-slow lint tables golden format benchmark clean distclean dclean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## Create .venv and install everything in the versions of constraints.txt

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(SETUP)

train: $(SETUP) ## Train, test and report on an embedded corpus (EXPERIMENT=task/name ARGS="key=value ..." to change it)
	$(BIN)/python src/train.py experiment=$(EXPERIMENT) $(ARGS)

eval: $(SETUP) ## Evaluate: make eval ARGS="ckpt_path=FILE"
	$(BIN)/python src/eval.py $(ARGS)

predict: $(SETUP) ## Process audio files: make predict ARGS="ckpt_path=FILE input=FOLDER output=FOLDER"
	$(BIN)/python src/predict.py $(ARGS)

listen: $(SETUP) ## Open a local web page to listen to checkpoints (ARGS="--port 7861")
	$(BIN)/python scripts/results/listen.py $(ARGS)

sweep: $(SETUP) ## Search hyper-parameters with Optuna (EXPERIMENT, SEARCH and ARGS as for train)
	$(BIN)/python src/train.py -m hparams_search=$(SEARCH) experiment=$(EXPERIMENT) $(ARGS)

leaderboard: $(SETUP) ## Compare all tested runs below logs/ in one table and page
	$(BIN)/python scripts/results/leaderboard.py $(ARGS)

test: $(SETUP) ## Run the fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(SETUP) ## Run the slow tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

lint: $(SETUP) ## Check style, types and every configuration file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_configs.py

tables: $(SETUP) ## Write the tables of the docs anew, from the YAMLs and the specs
	$(BIN)/python scripts/docs_tables.py

golden: $(SETUP) ## Compare the bits of short runs with those of the last commit (ARGS="--revision REVISION")
	$(BIN)/python scripts/golden.py $(ARGS)

format: $(SETUP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(SETUP) ## Compare speed with the peers (takes long)
	for script in $(sort $(wildcard scripts/benchmarks/*.py scripts/*/benchmark_*.py)); do $(BIN)/python $$script || exit 1; done

clean: ## Remove caches of tools (.venv, data/ and logs/ stay)
	rm -rf .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

distclean: ## Remove .venv
	rm -rf .venv

dclean: $(SETUP) ## List generated corpora, ask, and delete them (they are written again when needed)
	$(BIN)/python scripts/data/delete_generated.py $(ARGS)
