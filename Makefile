# Each target sets up all it needs: a virtual environment in .venv with the pinned packages of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check clean
quickstart: .venv/installed
	$(BIN)/bertwright quickstart --out quickstart

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: .venv/installed-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv quickstart
