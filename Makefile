# Each target sets up what it needs, on a machine with python3 (any 3.x), pip, make and a Python 3.12 that uv finds or
# fetches. A target's comment after ## is its line in `make help`.

SHELL := /bin/sh
BIN := .venv/bin
SITE := site
# Processes that run tests.
JOBS := 4
# Where the service keeps its records.
DB := sqlite
# Images of containers often set it. Nothing would be compiled once and for all: each of the hundreds of processes that
# tests start would spend seconds on that.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup lint test test-slow test-all test-long audit docs demo bench bench-full bench-table serve screenshots clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Run uv with arguments $(1). If the machine has none, one from PyPI does this one job and is removed again.
define uv
@if command -v uv >/dev/null 2>&1; then uv $(1); else \
  bootstrap=$$(mktemp -d) && trap 'rm -rf "$$bootstrap"' EXIT && \
  python3 -m pip install --quiet --disable-pip-version-check --target "$$bootstrap" 'uv>=0.9,<1' && \
  "$$bootstrap/bin/uv" $(1); fi
endef

setup: .venv/.ready  ## an environment in .venv

.venv/.ready: pyproject.toml uv.lock .python-version
	$(call uv,sync --locked)
	@touch $@

lint: setup  ## ruff, mypy (strict) and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test: lint  ## lint, and the tests that run on any machine, in minutes; JOBS=2 runs them in 2 processes
	$(BIN)/pytest -n $(JOBS)

test-slow: setup  ## the other tests: clusters, the service and its pages; what the machine lacks is skipped
	$(BIN)/pytest -m slow -n $(JOBS)

test-all: test test-slow  ## both, as CI does

test-long: setup  ## the few tests that take many minutes
	$(BIN)/pytest -m long -o faulthandler_timeout=4000

audit: setup  ## known vulnerabilities of the locked packages, by pip-audit; says so if no advisories can be reached
	@$(call uv,export --locked --quiet --all-groups --no-emit-project --output-file .venv/requirements.txt)
	@$(call uv,run --quiet --no-project --script .ci/audit.py .venv/requirements.txt)

docs: .venv-docs/.ready  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict --site-dir $(SITE)

.venv-docs/.ready: export UV_PROJECT_ENVIRONMENT = .venv-docs
.venv-docs/.ready: pyproject.toml uv.lock .python-version
	$(call uv,sync --locked --quiet --only-group docs)
	@touch $@

demo: setup  ## the pipeline on a sandbox CDSE: query, download, composites, pictures in demo/
	$(BIN)/python -m deployments.demo

bench: setup  ## what a composite costs, next to other programs, in minutes
	$(BIN)/python -m benchmarks quick

bench-full: setup  ## the same on more cells and with more settings, within the hour
	$(BIN)/python -m benchmarks full

bench-table: setup  ## put the results of the last benchmark into docs/benchmarks.md
	$(BIN)/python -m benchmarks.report

serve: setup  ## Prefect's server, a worker, the deployments and a sandbox CDSE on this machine, until Ctrl-C; DB=postgresql
	@$(BIN)/python -m deployments.serve --database $(DB)

screenshots: setup  ## make the pictures of docs/service.md again; needs chromium and chromedriver
	PYTHONPATH=tests $(BIN)/python -m support.screenshots

clean:  ## remove environments, caches and what the targets above made
	rm -rf demo service benchmarks/work site .venv .venv-docs .mypy_cache .ruff_cache .pytest_cache .hypothesis
