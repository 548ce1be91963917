# `make` lists what there is. ARGS is handed on:  make test ARGS="tests/core -x",  make demo ARGS="--help"
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# An exact version, installed by pip alone: its build (CPU or a GPU generation) is this machine's choice, so its hash
# cannot be locked. What it needs is locked in requirements/test.txt. `TORCH=` leaves it out.
TORCH ?= torch==2.13.0
ARGS ?=
TEST := .venvs/test
DEMO := .venvs/demo
# Every command here starts several processes; where this is set, each of them would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo serve test check bench peers calibrate crash simulate takeovers stress fuzz schemathesis conformance docs env lock clean
.SECONDARY:
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO)/.ready ## see models released, tried and chosen, from nothing, in about three minutes
	@$(DEMO)/bin/crossfade demo $(ARGS)

serve: $(DEMO)/.ready ## start the server
	@$(DEMO)/bin/crossfade serve $(ARGS)

test: $(TEST)/.ready ## run the tests on two processes; ARGS=--cov prints what they cover, and takes twice as long
	@$(TEST)/bin/python -m pytest -n 2 -m "not slow" $(ARGS)

slow: $(TEST)/.ready ## run the tests that take long: every page, the demo, servers under stress, error rates
	@$(TEST)/bin/python -m pytest -n 2 --dist loadfile -m slow $(ARGS)

check: $(TEST)/.ready ## lint, format, types, layers, shape of the code, lock files
	@$(TEST)/bin/ruff check --quiet --output-format concise
	@$(TEST)/bin/ruff format --check --quiet
	@$(TEST)/bin/mypy
	@$(TEST)/bin/lint-imports --no-logo
	@$(TEST)/bin/python tools/check_shape.py
	@$(TEST)/bin/python tools/check_locks.py

bench: $(TEST)/.ready ## measure; needs an otherwise idle machine
	@$(TEST)/bin/python -m benchmarks $(ARGS)

peers: $(TEST)/.ready ## measure other model servers, each in its own environment; needs an idle machine and 3 GB
	@$(TEST)/bin/python -m benchmarks.peers $(ARGS)
calibrate: $(TEST)/.ready ## simulate thousands of experiments and compare error rates with what was promised
	@$(TEST)/bin/python -m tests.calibration $(ARGS)

crash: $(TEST)/.ready ## kill servers at awkward moments and look for damage
	@$(TEST)/bin/python -m tests.crash.campaign $(ARGS)

simulate: $(TEST)/.ready ## live through 10,000 lives of rollouts of models and configs with faults, on a clock of their own
	@$(TEST)/bin/python -m tests.releases.simulation $(ARGS)

takeovers: $(TEST)/.ready ## kill and stop controllers of rollouts wherever they write, and look for damage
	@$(TEST)/bin/python -m tests.releases.takeovers $(ARGS)

stress: $(TEST)/.ready ## run hot for longer than a test may
	@$(TEST)/bin/python -m tests.stress $(ARGS)

fuzz: $(TEST)/.ready ## look for inputs that break a decoder, five minutes each
	@$(TEST)/bin/python -m tests.fuzz $(ARGS)

schemathesis: $(TEST)/.ready ## send a server what its OpenAPI document allows, and what it does not
	@$(TEST)/bin/python -m tests.openapi $(ARGS)

conformance: $(TEST)/.ready .venvs/conformance/.packages ## drive a server with other people's protocol clients
	@$(TEST)/bin/python -m tests.conformance .venvs/conformance/bin/python $(ARGS)

docs: $(TEST)/.ready ## write the generated reference pages again
	@$(TEST)/bin/python tools/generate_reference.py

env: $(TEST)/.ready ## build the test environment only

# ------------------------------------------------------------------------------------------------------- environments
# One folder per environment, rebuilt whole when its lock changes, so that nothing removed from a lock lingers.
# pip: -qq keeps its notes on the machine's configuration quiet.
PIP_INSTALL = .venvs/$*/bin/python -m pip install -qq

# The stamp is a copy of the locks: a fresh date on the same content rebuilds nothing.
.venvs/%/.packages: requirements/build.txt requirements/%.txt
	@cat $^ | cmp -s - $@ || { \
		echo "building .venvs/$* ..." && rm -rf .venvs/$* && $(PYTHON) -m venv .venvs/$* && \
		$(PIP_INSTALL) --require-hashes -r requirements/build.txt && \
		$(PIP_INSTALL) --require-hashes --no-build-isolation -r requirements/$*.txt && \
		$(if $(filter test,$*),$(if $(TORCH),$(PIP_INSTALL) $(TORCH) && ))cat $^ > $@; }
	@touch $@

.venvs/%/.ready: .venvs/%/.packages pyproject.toml
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@$(if $(filter test,$*),tools/install_test_tools.sh)
	@touch $@

# Servers that the tests run may be added without a change of the locks.
$(TEST)/.ready: tools/install_test_tools.sh

LOCK = $(TEST)/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header $(ARGS)

PEER_LOCKS := $(patsubst %.in,%.txt,$(wildcard requirements/peers/*.in))

lock: ## write the lock files again; ARGS=--upgrade takes the newest versions
	@test -x $(TEST)/bin/uv || { echo "run 'make env' first: uv is part of the test environment" >&2; exit 1; }
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) pyproject.toml --extra demo -c requirements/build.txt -o requirements/demo.txt
	$(LOCK) pyproject.toml --extra all requirements/test.in -c requirements/build.txt -o requirements/test.txt
	$(LOCK) requirements/conformance.in -o requirements/conformance.txt
	$(foreach lock,$(PEER_LOCKS),$(LOCK) $(lock:.txt=.in) -o $(lock) &&) true
	@$(TEST)/bin/python tools/check_locks.py

clean: ## remove environments and caches
	rm -rf .venvs build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
