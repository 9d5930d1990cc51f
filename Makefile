# Everything runs in .venv, which is made on first use: a bare machine needs python3.11 or newer, make and gcc.
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint types street

demo: $(INSTALLED)
	$(BIN)/everymask demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

# Trains the bundled model again (recipes/street): make street CAMVID=folder; stopped, it goes on.
STREET_RUN := --data $(CAMVID) --task panoptic --device cpu --devices 2 --resume --license "CC BY-NC 4.0"
street: $(INSTALLED)
	$(BIN)/everymask train --model recipes/street/config.json --from-scratch --recipe recipes/street/recipe.yaml \
	    --output runs/street $(STREET_RUN)
	$(BIN)/everymask train --model runs/street/best --recipe recipes/street/finish.yaml \
	    --output runs/street-finish $(STREET_RUN)
	$(BIN)/everymask train --model runs/street-finish/best --recipe recipes/street/longer.yaml \
	    --output runs/street-longer $(STREET_RUN)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "everymask needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
