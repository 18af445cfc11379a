# `make demo` shows the whole job on this machine; `make test` installs what the tests need and runs them all.
# Environments are built by tools/environment.py in .make/, anew when the locks change.

PYTHON3 ?= python3
# How many tests run side by side: most of them wait for servers; PYTEST_ARGS are handed to pytest, e.g. PYTEST_ARGS='-k lab -x'.
JOBS ?= 4
PYTEST_ARGS ?=

RUNTIME = .make/runtime/bin/python
DEV = .make/dev/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo venv servers check test bench lock clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: ## the whole job on this machine: three hosts, a name server, an outage, the way back
	@$(PYTHON3) tools/environment.py runtime >/dev/null
	@$(RUNTIME) -m mirrord demo

venv: ## build the environment for development in .make/dev, and point .venv to it
	@$(PYTHON3) tools/environment.py dev

servers: ## install the servers that the tests start (sudo where not root); none is started or enabled
	@tools/install-servers
	@tools/fetch-handbook

check: ## style and types
	@$(PYTHON3) tools/environment.py dev >/dev/null
	$(DEV) -m ruff format --check
	$(DEV) -m ruff check
	$(DEV) -m mypy

test: servers check ## install what is missing, check style and types, run every test
	$(DEV) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

bench: servers ## measure against rsync and rclone, and how soon readers are moved; BENCH="PART..." for some of it
	@$(PYTHON3) tools/environment.py dev >/dev/null
	$(DEV) -m tests.bench $(BENCH)

lock: ## pin anew what pyproject.toml asks for, with hashes; UPGRADE=--upgrade takes newer versions
	@$(PYTHON3) tools/environment.py dev >/dev/null
	.make/dev/bin/uv pip compile --quiet $(UPGRADE) --generate-hashes --universal --python-version 3.11 \
	    --custom-compile-command 'make lock' pyproject.toml --output-file requirements.lock
	.make/dev/bin/uv pip compile --quiet $(UPGRADE) --generate-hashes --universal --python-version 3.11 \
	    --custom-compile-command 'make lock' --group dev --constraint requirements.lock pyproject.toml \
	    --output-file requirements-dev.lock

clean: ## remove all that make built
	rm -rf .make dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@[ ! -L .venv ] || rm .venv
	find mirrord tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
