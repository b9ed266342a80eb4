# Every target finds a Python >= 3.12, makes .venv and installs into it, once; after that it starts at once.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := a2a_gateway delegate_tool tests examples bench scripts
# Shared by the three linters, so that each runs on what exists.
PRESENT = $(wildcard $(SOURCES))
# One more than there are cores: tests wait for processes that start, too.
WORKERS := $(shell expr $$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2) + 1)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format-check lint types layers format docs bench constraints clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv (the other targets do it by themselves)

$(READY): pyproject.toml constraints.txt scripts/make-venv.sh scripts/find-python.sh scripts/install.py
	@sh scripts/make-venv.sh $(VENV)
	@touch $@

demo: $(READY) ## A lead agent delegates to specialists and back: no key, no network
	@$(BIN)/a2a-gateway demo

# A file is one worker's, so that its gateway starts once; in the order of the directories, which has the slow ones first.
# Compiled modules are kept, whatever the environment says: each worker, and each process that a test starts, imports hundreds.
# COVERAGE=1 counts branches, in all workers and in the processes that tests start, and holds the floor of pyproject.toml.
COVERAGE :=
test: $(READY) ## All tests; PYTEST='-k name' narrows, COVERAGE=1 measures branch coverage
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=term) $(PYTEST)

check: format-check lint types layers ## Formatting, lint, types, layers

format-check: $(READY)
	@$(BIN)/ruff format --check $(PRESENT)

lint: $(READY)
	@$(BIN)/ruff check $(PRESENT)

types: $(READY)
	@$(BIN)/mypy $(PRESENT)

layers: $(READY)
	@$(BIN)/lint-imports

format: $(READY) ## Format, and fix what lint can fix
	@$(BIN)/ruff format $(PRESENT)
	@$(BIN)/ruff check --fix $(PRESENT)

docs: $(READY) ## Build the documentation site into site/, offline; a broken link fails
	@$(BIN)/python -m scripts.build_reference
	@$(BIN)/zensical build --clean --strict

bench: $(READY) ## Measure against the bars; writes bench-results.json
	@$(BIN)/python -m bench

constraints: ## Resolve all dependencies anew and pin them in constraints.txt
	@sh scripts/pin-constraints.sh

clean: ## Remove .venv, caches and build results
	rm -rf $(VENV) $(VENV).lock build dist site docs/reference *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache .pytest_cache .coverage .coverage.* bench-results.json
	find $(PRESENT) -name __pycache__ -type d -prune -exec rm -rf {} +
