# make setup · demo · study · test · test-all · check: each sets up .venv by itself
PYTHON ?= python3
BIN := .venv/bin
# One thread a process: two threads on busy cores are slower than one, and other bytes.
export OMP_NUM_THREADS := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: setup demo study test test-all check format clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or later is wanted; set PYTHON=...') if sys.version_info < (3, 11) else None"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[simulation,dev]'
	touch $@

demo: setup
	$(BIN)/ramw-fed run simulations/demo.toml --out runs/demo --overwrite

study: setup
	$(BIN)/ramw-fed study simulations/study.toml --out runs/study
	$(BIN)/ramw-fed verify runs/study/report.html

test: setup
	$(BIN)/pytest -n 2 -m "not slow" --quiet

test-all: setup
	$(BIN)/pytest -n 2 --quiet

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(MAKE) test

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf runs cohorts .pytest_cache .mypy_cache .ruff_cache
