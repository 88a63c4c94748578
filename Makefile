# Each target sets up all it needs: a virtual environment in .venv with the pinned packages of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test check coverage matrix docs tour gpu release clean
quickstart: .venv/installed
	$(BIN)/bertwright quickstart --out quickstart

test: .venv/installed-dev
	$(PYTEST)

check: .venv/installed-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

coverage: .venv/installed-dev
	$(PYTEST) --cov --cov-report term

matrix:
	.ci/matrix

docs: export NO_MKDOCS_2_WARNING = 1
docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/mkdocs build --strict --quiet --config-file mkdocs.zh.yml

tour: .venv/installed quickstart/run/model
	$(BIN)/python .ci/tour.py quickstart

gpu: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt transformers accelerate
	$(BIN)/python benchmarks/gpu.py --out gpu-results

quickstart/run/model:
	$(MAKE) quickstart

release:
	PYTHON=$(PYTHON) .ci/release

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-%: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist site quickstart gpu-results
