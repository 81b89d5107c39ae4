# Needs Python 3.11 or later (PYTHON=...) and the package index. Every target makes its own environment.
PYTHON ?= python3
PYTEST_ARGS ?=
SOURCES := $(shell find src -type f -not -path '*__pycache__*' -not -path '*.egg-info*')

.PHONY: demo test lint clean

# A network for scikit-learn's handwritten digits (inside the package, real) under three budgets.
demo: .venv-demo/.installed
	.venv-demo/bin/resfit fit digits --latency-ms 2 --file-kb 150 --min-accuracy 0.95 --time-minutes 1 \
	    --out fits/demo

# One thread a worker: two workers of two threads each would fight for two cores.
test: lint
	OMP_NUM_THREADS=1 .venv-test/bin/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

lint: .venv-test/.installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports --no-logo

clean:
	rm -rf .venv-demo .venv-test build dist src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# build/ is removed first: setuptools would pack modules that an earlier build left there.
.venv-demo/.installed: pyproject.toml Makefile $(SOURCES)
	rm -rf build
	test -x .venv-demo/bin/python || $(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install -qq .
	touch $@

# torchvision only serves as the reference in parity tests, which stub its compiled operators.
.venv-test/.installed: pyproject.toml Makefile
	test -x .venv-test/bin/python || $(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install -qq --editable '.[test]'
	.venv-test/bin/pip install -qq --no-deps 'torchvision==0.28.0'
	touch $@
