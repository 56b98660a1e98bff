# Everything here sets up .venv by itself; nothing but Python 3.11+, make and git is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test lint format bench clean

help:
	@echo "make demo    the toy study and a small table, in one report"
	@echo "make test    all tests, with coverage"
	@echo "make lint    format, lint, types, floors"
	@echo "make format  rewrite the sources in the project's format"
	@echo "make bench   batched training against a plain loop (idle machine, a few minutes)"

.venv/.ready: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "farfield needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.ready
	$(BIN)/farfield demo --out farfield-demo --overwrite

test: .venv/.ready
	$(BIN)/python -m pytest --cov --cov-report=term

lint: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.ready
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf .venv farfield-demo
