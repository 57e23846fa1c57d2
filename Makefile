.DEFAULT_GOAL := help
.PHONY: help train test test-slow test-browser screenshots check bench clean

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# pip compiles no modules here, and Python keeps each as it is first imported: without that a start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
INSTALLED := .venv/installed
# Passive: OpenMP's threads wait for each other in a busy loop, which takes the cores from the other test process.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q --durations=10

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(INSTALLED)  ## install, train and evaluate on scikit-learn's digits; ARGS="epochs=20 …" overrides
	@$(BIN)/blitz experiment=quickstart $(ARGS)
	@echo
	@echo 'next, with the same program ($(BIN)/blitz, or "blitz" after ". $(BIN)/activate"):'
	@echo '  $(BIN)/blitz data=cifar10 model=resnet20 epochs=5      CIFAR-10, downloaded once (170 MB)'
	@echo '  $(BIN)/blitz experiment=quickstart -m optimizer.lr=0.1,0.01,0.001   a sweep'
	@echo '  $(BIN)/blitz ui                                        the runs in a browser'
	@echo '  $(BIN)/blitz --help'

test: $(INSTALLED)  ## install and run the tests, under three minutes on two cores
	@$(PYTEST) -n 2 --dist worksteal $(ARGS)

test-slow: $(INSTALLED)  ## the tests that take longer: some twenty minutes on two cores
	@$(PYTEST) -m slow -n 2 --dist worksteal $(ARGS)

test-browser: $(INSTALLED)  ## look at the MLflow UI and at a comparison's page in headless Chromium; skipped where that is not installed
	@$(PYTEST) -m browser $(ARGS)

screenshots: $(INSTALLED)  ## the same, with pictures into experiments/mlflow_ui; BLITZ_CIFAR10=DIR for real images
	@folder=$$(mktemp -d -t blitz-XXXX) && BLITZ_SCREENSHOTS=experiments/mlflow_ui \
	    $(PYTEST) -m browser --basetemp="$$folder/tests" $(ARGS); code=$$?; rm -rf "$$folder"; exit $$code

check: $(INSTALLED)  ## lint and check the types of code and tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(INSTALLED)  ## blitz beside the tutorial's script and Lightning, and what a start takes; BLITZ_CIFAR10=DIR for real images
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python experiments/speed/start.py $(if $(BLITZ_CIFAR10),--images $(BLITZ_CIFAR10))
	@$(BIN)/python experiments/speed/peers.py $(if $(BLITZ_CIFAR10),--images $(BLITZ_CIFAR10)) $(ARGS)

clean:  ## remove the environment and caches; runs and stores stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

# One stamp for all targets: a second call installs nothing. Python compiles modules as they are first imported; pip would
# compile all of them, which takes minutes.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	    "blitz needs Python 3.11, 3.12 or 3.13; this is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@echo 'installing into .venv (once; PyTorch is a download of some 2.5 GB on Linux)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@quiet=--quiet; test -t 1 && quiet=; $(BIN)/python -m pip install $$quiet --no-compile --disable-pip-version-check \
	    -c constraints.txt -e '.[dev]'
	@touch $@
