# Two commands are all a newcomer needs: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint setup clean

demo: setup ## adapt the embedded backbone to real shapes by each method, and compare
	$(BIN)/pointpeft demo $(ARGS)

# Tests run beside each other: with a second thread each they would wait for one another.
test: setup ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: setup ## check style and types
	$(BIN)/ruff check src tests scripts benchmarks examples
	$(BIN)/ruff format --check src tests scripts benchmarks examples
	$(BIN)/mypy

setup: $(STAMP) ## create the environment

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("pointpeft needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; run make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else 0'
	@echo 'setting up $(VENV), once: a few minutes in all'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo 'step 1 of 2: PyTorch, the largest download; one to several minutes'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	@echo 'step 2 of 2: pointpeft and all else that it needs; one to two minutes'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo '$(VENV) is ready'

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build
