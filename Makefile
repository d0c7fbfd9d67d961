# Every target sets up what it needs first. `make` alone lists them.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON      ?= python3.11
LAKE        ?= ./lake
CUSTOMERS   ?= 2000
PYTEST_ARGS ?=

BIN   := .venv/bin
SETUP := .venv/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check fmt serve render gitops-configure validate-gitops bench lock clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP)  ## make .venv with the pinned packages (the other targets do it by themselves)

# Again only when what is to be installed has changed. pip's own words go to a log that is shown if it fails.
$(SETUP): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: '$(PYTHON)' is not on the PATH: install Python 3.11 (Debian 12: apt-get install python3.11-venv), or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), this project needs Python 3.11: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { \
	  echo "error: $(PYTHON) cannot make a virtual environment (Debian 12: apt-get install python3.11-venv)" >&2; exit 2; }
	@echo "Installing the pinned packages into .venv (a few minutes the first time)"
	@$(BIN)/python -m pip install --progress-bar off -c requirements.lock -e '.[dev]' 2>&1 | tee .venv/pip.log | awk -v tty="$$(test -t 1 && echo 1 || true)" '\
	  /^Collecting / { n++; if (tty) printf "\r\033[K  %3d packages found: %s", n, $$2; else if (n % 25 == 0) print "  " n " packages found"; fflush() } \
	  /^Installing collected/ { if (tty) printf "\r\033[K"; print "  unpacking them"; fflush() } \
	  END { if (tty) printf "\r\033[K" }' || { \
	  grep -iE '^(error|warning)' .venv/pip.log >&2 || tail -n 20 .venv/pip.log >&2; \
	  echo "error: pip could not install the packages; all it said is in .venv/pip.log. 'make setup' goes on from here." >&2; exit 75; }
	@touch $@

demo: $(SETUP)  ## the whole way on synthetic data: purchases in, a trained model out, one real request answered
	@$(BIN)/python -m pipelines.demo --lake $(LAKE) --customers $(CUSTOMERS)

test: $(SETUP)  ## run the tests on two processes (PYTEST_ARGS="-k lake" for some of them)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -p no:cacheprovider $(PYTEST_ARGS)

check: $(SETUP)  ## lint, types, and that the rendered YAML is current
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pipelines.render --check

fmt: $(SETUP)  ## format the code and mend what the linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

serve: $(SETUP)  ## answer requests with the champion in LAKE=./lake (API_PORT=8080)
	@MODEL_URI="$${MODEL_URI:-$(LAKE)/registry}" exec $(BIN)/python -m inference

render: $(SETUP)  ## write the workflow YAML below gitops/
	@$(BIN)/python -m pipelines.render

gitops-configure: $(SETUP)  ## write REPO=url REGISTRY=host/prefix ACCOUNT=id REGION=… BUCKET=stem into gitops/
	@$(BIN)/python -m pipelines.gitops.configure --repo '$(REPO)' --registry '$(REGISTRY)' --account '$(ACCOUNT)' --region '$(REGION)' --bucket '$(BUCKET)'

validate-gitops: $(SETUP)  ## check every manifest below gitops/, offline (CRD_SCHEMAS=folder for custom kinds)
	@$(BIN)/python -m pipelines.gitops.validate

bench: $(SETUP)  ## run the benchmarks, each prints its table (BENCH=name for one)
	@files="$(or $(BENCH:%=benchmarks/%.py),$(wildcard benchmarks/[a-z]*.py))"; [ -n "$$files" ] || echo "benchmarks/ holds none yet"; \
	for file in $$files; do \
	  echo "== $$file"; $(BIN)/python -m "benchmarks.$$(basename $$file .py)"; done

lock: $(SETUP)  ## write requirements.lock from what .venv holds now
	@{ sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed -E 's/^([^=]+==[^+]+)\+.*/\1/'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock && touch $(SETUP)

clean:  ## remove caches and build leftovers (keeps .venv and every lake)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis requirements.lock.new
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## also remove .venv and the demo's lake
	@rm -rf .venv ./lake
