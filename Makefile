# `make demo` and `make test` need Python >= 3.11 and nothing else: both make .venv from the pinned constraints first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PEERS_PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --python

.PHONY: demo test peers docs bench lint clean

demo: .venv/.core
	$(BIN)/offmap bench --suite procedural --out runs/demo
	$(BIN)/offmap score docs/example.jsonl

test: .venv/.dev .venv/reference/.done lint peers
	$(BIN)/python -m pytest

# Adapters, and LiteLLM, with the real libraries: types and tests, in environments that do not disturb ours.
peers: .venv/.dev .venv/agents/.offmap .venv/litellm/.done
	$(BIN)/mypy --python-executable .venv/agents/bin/python --follow-imports silent --cache-dir .mypy_cache/agents \
		src/offmap/clients/*.py
	.venv/agents/bin/python -m pytest -c tests/peers/pytest.ini tests/peers

docs: .venv/.dev
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs build/docs

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev .venv/reference/.done
	$(BIN)/python benchmarks/one_pass.py
	$(BIN)/python benchmarks/overhead.py

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "offmap needs Python >= 3.11 on the PATH" >&2; exit 2; }
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "offmap needs Python >= 3.11, found " + sys.version)'
	$(PYTHON) -m venv .venv

.venv/.core: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[bench,gateway]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[adapter,bench,dev]'
	@touch $@ .venv/.core

# The published package that one_pass.py is measured against; it states a newer Python than it needs.
.venv/reference/.done: .venv/bin/python benchmarks/requirements.txt
	rm -rf .venv/reference
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		--target .venv/reference --requirement benchmarks/requirements.txt
	@touch $@

.venv/agents/.offmap: .venv/agents/.done pyproject.toml
	$(PEERS_PIP) .venv/agents/bin/python install --no-deps --editable .
	@touch $@

# Every package is pinned, so nothing is resolved; pip compiles nothing that is never imported.
.venv/%/.done: tests/peers/%.txt .venv/bin/python
	rm -rf .venv/$*
	$(BIN)/python -m venv --without-pip .venv/$*
	$(PEERS_PIP) .venv/$*/bin/python install --no-deps --no-compile --requirement $<
	@touch $@

clean:
	rm -rf .venv runs build .mypy_cache .ruff_cache .pytest_cache .hypothesis
