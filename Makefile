# Everything these targets make lies in .venv and .local; `make clean` removes it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

LOCAL := compose/local
BIN := .venv/bin

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: venv $(if $(PLUGIN),postgres) ## walvec demo: embed a blog, follow its edits; KEEP=1 leaves it running; PLUGIN=wal2json
ifdef PLUGIN
	@$(LOCAL)/cluster.sh up demo
	@code=0; $(BIN)/walvec demo --plugin $(PLUGIN) --dsn "$$($(LOCAL)/cluster.sh dsn demo)" $(if $(KEEP),--keep) || code=$$?; \
	$(if $(KEEP),,$(LOCAL)/cluster.sh down demo;) exit $$code
else
	@$(BIN)/walvec demo $(if $(KEEP),--keep)
endif

.PHONY: test
test: lint $(if $(WALVEC_TEST_DSN),,servers) ## lint, types, every test; WALVEC_TEST_PG=15|16|18, ARGS="…" for pytest
	@$(BIN)/pytest --numprocesses auto --dist loadfile --cov --cov-report=term $(ARGS)

.PHONY: torture
torture: venv $(if $(WALVEC_TEST_DSN),,servers) ## the crash tests at full length; KILLS=… random kills, SEED=…
	@WALVEC_TORTURE=1 WALVEC_KILLS=$(or $(KILLS),100) $(if $(SEED),WALVEC_SEED=$(SEED)) $(BIN)/pytest tests/crash $(ARGS)

.PHONY: mutants
mutants: venv postgres ## try mistakes that break a guarantee, and count those that a test sees; ONLY=a room or names' beginnings
	@$(BIN)/python -m tests.mutants $(ONLY)

.PHONY: bench
bench: venv postgres ## measure, and write docs/performance.md; PART=…, ROUNDS=…, QUICK=1
	@$(if $(QUICK),QUICK=$(QUICK)) $(if $(ROUNDS),ROUNDS=$(ROUNDS)) $(BIN)/python -m bench $(PART)

.PHONY: profile
profile: venv postgres ## where the CPU goes, with flame graphs in .local/bench; QUICK=1
	@$(if $(QUICK),QUICK=$(QUICK)) $(BIN)/python -m bench.profile

.PHONY: lint
lint: venv ## ruff, mypy, and the direction of imports
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m bench.house --check

.PHONY: docs
docs: venv ## write the tables of events and metrics into docs/, from their catalogues
	@$(BIN)/python -m bench.tables

.PHONY: clean
clean: ## stop and remove all that was made here
	@$(LOCAL)/clean.sh
	@rm -rf build dist htmlcov .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: lock
lock: venv ## bring the lock files up to date with pyproject.toml; UPGRADE=1 takes the newest versions
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	@$(COMPILE) --output-file requirements-dev.lock --constraint requirements.lock --group dev pyproject.toml
	@$(COMPILE) --no-deps --output-file bench/requirements-pgai.lock bench/requirements-pgai.in

# The index is whatever the machine uses; no address of it goes into a lock.
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

.PHONY: venv postgres servers
venv:
	@$(LOCAL)/venv.sh
postgres:
	@$(LOCAL)/postgres.sh
servers: venv
	@$(LOCAL)/servers.sh
