# make demo | test | test-slow | lint | bench: each sets the machine up first, once.
# Another interpreter: make PYTHON=/path/to/python3.12 test

SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BENCH_VENV := .venv-bench
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(BENCH_VENV)/.installed

.PHONY: setup demo test test-slow lint bench clean

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-jax.txt
	@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "error: this needs Python 3.11, 3.12 or 3.13 with its venv module (TensorFlow" \
			"has no wheel for 3.14 yet); name one with: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt -r requirements-jax.txt
	@touch $@

$(BENCH_INSTALLED): requirements-bench.txt $(INSTALLED)
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet -r requirements-bench.txt
	@touch $@

demo: setup
	@$(VENV)/bin/python -m serving.demo

test: setup
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

test-slow: setup
	$(VENV)/bin/python -m pytest -m slow

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

bench: setup $(BENCH_INSTALLED)
	$(VENV)/bin/python -m tests.benchmarks

clean:
	rm -rf runs exports
