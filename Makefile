# Every target does its own set-up: `make test` on a fresh machine needs Python, make and git alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
PEOPLE := forged_portraits:avatars

.PHONY: help install test test-all check format demo clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

install: $(INSTALLED)  ## Create .venv with the project and its tools, versions as in constraints.txt

check: $(INSTALLED)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: check  ## Style, types and the test suite without what takes minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

test-all: check  ## Style, types and the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

format: $(INSTALLED)  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(INSTALLED)  ## Convert the demonstration checkpoint, verify and evaluate it, write its card, predict on pictures
	rm -rf $(DEMO)
	mkdir $(DEMO)
	$(BIN)/python -m convert.from_torch checkpoints/demo.pth --overwrite
	@$(BIN)/python -m train.data.audit $(PEOPLE) > $(DEMO)/audit.txt && echo $(PEOPLE) > $(DEMO)/data \
		|| { [ $$? = 2 ] && echo "Drawn faces are judged instead, which the checkpoint has never seen" \
		&& echo forged_portraits > $(DEMO)/data; }
	$(BIN)/python -m train.eval --checkpoint checkpoints/demo --data $$(cat $(DEMO)/data) --out $(DEMO)/evaluation
	@# What is recorded was measured on people; figures of drawn faces do not replace it.
	$(BIN)/python -m train.card checkpoints/demo $$(grep -qx $(PEOPLE) $(DEMO)/data && echo --evaluation $(DEMO)/evaluation)
	$(BIN)/python -m train.data.export $(DEMO)/faces --data $$(cat $(DEMO)/data) --limit 8
	$(BIN)/python -m flax_unet.predict checkpoints/demo $(DEMO)/faces/crops flax_unet/app/examples --out $(DEMO)/predictions
	@echo "Look at $(DEMO)/evaluation/*.png and $(DEMO)/predictions/*.overlay.png"

clean:  ## Delete what the targets made, the environment included
	rm -rf $(VENV) $(DEMO) .pytest_cache .ruff_cache .hypothesis *.egg-info
