# Everything starts here: `make demo` shows birdmml at work, `make test` checks it. Both need Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= ./data
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint types install drill clean help

help:
	@echo "make demo   install into $(VENV), build the demo dataset, train and score ConFu on it"
	@echo "make test   install into $(VENV), run the linters, the type checker and the whole test suite"
	@echo "make drill  the long tests: many kills, many damaged inputs, every command of the guides"
	@echo "make clean  remove $(VENV) and what the tools leave behind (data and results stay)"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "birdmml needs Python 3.11 or newer: set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/birdmml build --out $(OUT)
	$(BIN)/birdmml bench --method confu --data $(OUT)
	@echo
	@echo "Look at the dataset:  $(OUT)/report/index.html"
	@echo "Look at the results:  results/"
	@echo "Use it yourself:      . $(BIN)/activate; birdmml --help"

lint: $(STAMP)
	$(BIN)/ruff check birdmml tests
	$(BIN)/ruff format --check birdmml tests

types: $(STAMP)
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal

drill: $(STAMP)
	$(BIN)/python -m pytest -m drill

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
