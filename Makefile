# `make demo` and `make test` need Python 3.10 to 3.13, git and make, and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The environment is made anew when what it is made of changes, and only then.
STATE  := $(shell cat pyproject.toml src/visual_sentence/offline/requirements.txt | cksum | tr -d ' ')
READY  := $(VENV)/ready-$(STATE)

.PHONY: demo test test-fast lint format clean help

help:
	@echo "make demo       set up, photographs to words, a question, visual sentences (demo/index.html)"
	@echo "make test       set up, run all tests"
	@echo "make test-fast  set up, run the tests that take less than ten seconds each"
	@echo "make lint       check style, types make format  mend the style"
	@echo "make clean      remove the environment and what the demo wrote"

$(READY):
	@echo "setting up $(VENV): Python packages (some gigabytes with PyTorch), then the offline models"
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/visual-sentence offline install
	touch $@

demo: $(READY)
	$(BIN)/visual-sentence demo --output demo

# One thread for each of the processes that share the machine; a file's tests stay together, as their fixtures do.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
         --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST)

test-fast: $(READY)
	$(PYTEST) -m "not slow"

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python scripts/check_types.py

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) demo build dist *.egg-info
