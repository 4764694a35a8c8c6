# make setup   an environment in .venv, and nothing else
# make test    lint, types and tests
# make demo    the main job on sandbox scenes: grid, products, composites, a quicklook
# All of them need python3 (any 3.x) with venv, make, and a Python 3.12 that uv finds or fetches.

SHELL := /bin/sh
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
DEMO_BOX := -149.74 68.58 -149.50 68.68

.PHONY: setup lint test demo clean

setup: .venv/.ready

# uv where the machine has none, in a folder of its own.
.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

.venv/.ready: $(filter .uv/bin/uv,$(UV)) pyproject.toml uv.lock .python-version
	$(UV) sync --locked --quiet
	@touch $@

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

test: lint
	$(RUN) pytest

demo: setup
	rm -rf demo
	$(RUN) python -m s2sr_core.sandbox --out demo/archive --dates 6 --bands B02 B03 B04
	$(RUN) s2sr-make-grid --bbox $(DEMO_BOX) --cell-size 0.1 --out demo/gridcells.csv
	$(RUN) s2sr-pipeline --bbox $(DEMO_BOX) --grid-csv demo/gridcells.csv --start 2019-06-01 --end 2025-01-01 \
	  --bands B02 B03 B04 --tap --source demo/archive --work-dir demo/run --count --quicklook

clean:
	rm -rf demo .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis
