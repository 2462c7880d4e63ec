# `make demo` and `make test` need nothing but Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Both flags: the exact versions hold for what is installed and for what builds it.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt --build-constraint constraints.txt

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test check clean

help:
	@echo "make demo    install into $(VENV) and run the demo; its report is demo/report.html"
	@echo "make test    install with the test tools, check the code, run all tests"
	@echo "make check   ruff and mypy"
	@echo "make clean   remove $(VENV), caches and the demo's output"
	@echo "PYTHON=...   the Python (3.11 or newer) that $(VENV) is made with, now $(PYTHON)"

demo: $(VENV)/installed
	$(BIN)/dgex demo

test: check
	$(BIN)/python -m pytest

check: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11. Name a newer one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip comes first and alone: the one that Python 3.11 brings knows neither dependency
# groups nor build constraints.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP_INSTALL) --group test --group check
	@touch $@
