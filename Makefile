# Everything here sets itself up: a fresh clone, Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUNTIME ?= auto
N ?= 2000

.PHONY: chaos test fuzz convict trust bench lint format clean

chaos: $(READY)  ## every plan on the correct store and one planted bug; prints the report's path
	$(BIN)/pytest -m chaos --nemesis-runtime=$(RUNTIME) -n 2 -v $(ARGS)

test: $(READY)  ## all other tests; one that hangs is told after ten minutes, and ends it all
	$(BIN)/pytest -m "not chaos" -n 3 --dist loadfile --no-loadscope-reorder \
	  -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true --max-worker-restart=0 $(ARGS)

fuzz: $(READY)  ## the checkers against brute force, N histories of each data type
	$(BIN)/python -m tests.fuzz $(N) $(ARGS)

convict: $(READY)  ## each planted bug is convicted, the same plan and seed without it acquitted
	$(BIN)/pytest tests/convict --nemesis-runtime=local -v $(ARGS)

trust: $(READY)  ## the same over many seeds: writes docs/trust.md
	$(BIN)/python -m tests.convict.trust $(ARGS)

bench: $(READY)  ## measured against peers and limits in the same run
	$(BIN)/python -m benchmarks.proxy
	$(BIN)/python -m benchmarks.checkers
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.fabric
	$(BIN)/python -m benchmarks.packets
	$(BIN)/python -m benchmarks.clock
	$(BIN)/python -m benchmarks.page

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml setup.py harness/checkers/_linearize.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
