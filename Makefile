# make setup   an environment in .venv, and nothing else
# make test    lint, types and the tests that run on any machine, in minutes
# make test-slow   the other tests: clusters (Slurm, MPI), the service and its pages in a browser; what is missing is skipped
# make test-all    both, as CI does
# make test-long   the few tests that take many minutes
# make demo    the main job on a sandbox CDSE: query, download, composites, a picture
# make bench   what it costs beside other programs, in minutes; bench-full within the hour; bench-table: docs/benchmarks.md
# make serve   Prefect's server, a worker, the deployments and a sandbox CDSE on this machine, until Ctrl-C
# make screenshots   the pictures of docs/service.md anew; needs chromium and chromedriver
# Each sets up what it needs, on a machine with python3 (any 3.x), pip, make and a Python 3.12 that uv finds or fetches.

SHELL := /bin/sh
BIN := .venv/bin

.PHONY: setup lint test test-slow test-all test-long demo bench bench-full bench-table serve screenshots clean

setup: .venv/.ready

# Where the machine has no uv, one from PyPI does this one job and goes again.
.venv/.ready: pyproject.toml uv.lock .python-version
	@if command -v uv >/dev/null 2>&1; then uv sync --locked; else \
	  bootstrap=$$(mktemp -d) && trap 'rm -rf "$$bootstrap"' EXIT && \
	  python3 -m pip install --quiet --disable-pip-version-check --target "$$bootstrap" 'uv>=0.9,<1' && \
	  "$$bootstrap/bin/uv" sync --locked; fi
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

test-slow: setup
	$(BIN)/pytest -m slow

test-all: test test-slow

test-long: setup
	$(BIN)/pytest -m long

demo: setup
	$(BIN)/python -m deployments.demo

bench: setup
	$(BIN)/python -m benchmarks quick

bench-full: setup
	$(BIN)/python -m benchmarks full

bench-table: setup
	$(BIN)/python -m benchmarks.report

serve: setup
	@$(BIN)/python -m deployments.serve

screenshots: setup
	PYTHONPATH=tests $(BIN)/python -m support.screenshots

clean:
	rm -rf demo service benchmarks/work .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
