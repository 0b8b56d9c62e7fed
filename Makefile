# Two commands for newcomers: `make demo`, `make test`. Both set up everything they need, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNS := $(VENV)/.runs

TALK := $(patsubst %,tests/client_sdk/test_%.py,client conversation feed claims outbox commits yourdata) \
	tests/client_sdk/engine/test_profiles.py
MAIN_JOB := $(TALK) tests/test_canaries.py $(patsubst %,tests/client_sdk/test_%.py,invites account recovery blobs crash)

.DEFAULT_GOAL := help
.PHONY: help demo test check docker-check docker-smoke chaos cluster fuzz timing clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

define ENVIRONMENT
$(PYTHON) -c 'import sys; sys.exit("Restante needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
$(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
endef

$(STAMP): pyproject.toml
	$(ENVIRONMENT)
	$(BIN)/python -m pip install --quiet --editable '.[server]' --group dev
	touch $(RUNS) $(STAMP)

# without what only tests and checks need
$(RUNS): pyproject.toml
	$(ENVIRONMENT)
	$(BIN)/python -m pip install --quiet --editable '.[server]'
	touch $(RUNS)

demo: $(RUNS) ## three people in two conversations, and what the relay's disk shows of it
	$(BIN)/python -m restante_server demo

test: $(STAMP) peers ## the whole suite
	$(BIN)/python -m pytest -n auto
	# and a part of it over a cluster, with two relays; make cluster has all
	$(BIN)/python -m pytest -q -n auto --store cluster tests/protocol/test_plain_client.py $(TALK)
	# whoever refuses everything optional loses nothing of the main job
	$(BIN)/python -m pytest -q -n auto --refuse-all $(MAIN_JOB)

# atheris follows coverage; where it has no wheel the seeded mutator of tests/fuzz runs alone
ATHERIS = if $(BIN)/python -c 'import atheris' 2>/dev/null; then $(BIN)/python tests/fuzz/with_atheris.py
NO_ATHERIS = echo "atheris is not installed: the seeded mutator alone runs"

check: $(STAMP) ## style, types, layers, spelling, coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	# an answer of another type fails a test at once: its attributes need no narrowing
	MYPYPATH=tests $(BIN)/mypy --explicit-package-bases --disable-error-code union-attr --disable-error-code misc \
		--no-warn-unused-ignores tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/codespell
	@$(BIN)/python -m pip install --quiet --group fuzz || echo "atheris cannot be installed here"
	@$(ATHERIS) --seconds 1 --runs 2000; else $(NO_ATHERIS); fi
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -q -n 2 --deselect tests/test_package.py
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered --fail-under=95
	$(BIN)/python -m coverage report --skip-covered --fail-under=100 --include='protocol/*,crypto/*'

docker-check: $(STAMP) ## images, compose files and systemd unit, with the tools that are present
	$(BIN)/python -m pip install --quiet --group docker || echo "some tools cannot be installed here"
	PATH="$(CURDIR)/$(BIN):$$PATH" docker/check.sh

docker-smoke: $(STAMP) ## both compose files for real: up, a conversation over TLS, down, up, the message is there
	docker compose -f docker/compose.yaml build
	PYTHON=$(BIN)/python docker/smoke.sh compose.yaml
	PYTHON=$(BIN)/python docker/smoke.sh compose.cluster.yaml

# The long suites: seeded, so that a failure can be repeated (SEED=...).
SEED ?= 1

# For tests and benchmarks only: other implementations of MLS, and axe-core. Without npm or a registry their tests say
# that they skip.
PEERS := .peers

.PHONY: peers interop bench bench-full bench-peers bench-mls
peers: $(STAMP)
	@mkdir -p $(PEERS)
	@cmp -s tests/interop/peers/package.json $(PEERS)/package.json || { ! command -v npm >/dev/null \
		|| { cp tests/interop/peers/package.json $(PEERS)/ \
		&& npm install --prefix $(PEERS) --no-package-lock --no-audit --no-fund --loglevel=error; }; } \
		|| { rm -f $(PEERS)/package.json; echo "ts-mls and axe-core cannot be installed here: their tests are skipped"; }
	@test -d $(PEERS)/python || $(BIN)/python -m pip install --quiet --no-deps --target $(PEERS)/python \
		rine-mls==0.1.1 || echo "rine-mls cannot be installed here: its tests are skipped"

interop: $(STAMP) peers ## 1,000 random schedules with each other implementation of MLS, and with all; goes on where it was stopped
	$(BIN)/python -m pytest tests/interop -q --schedules 1000 --seed $(SEED) --resume --timeout 7200

chaos: $(STAMP) ## kill -9 of relay and client 50 times each; faults of relays over a cluster, 20 of each kind; goes on where it was stopped
	$(BIN)/python -m pytest tests/client_sdk/test_crash.py -q --kills 50 --seed $(SEED) --timeout 900
	$(BIN)/python -m pytest tests/server/test_chaos.py -q -s --kills 20 --seed $(SEED) --resume

# REDIS_SERVER=/usr/bin/redis-server takes that one for all servers
cluster: $(STAMP) ## the suites of the main job with two relays over a cluster of three masters with replicas
	$(BIN)/python -m pytest -n 2 --redis-server '$(REDIS_SERVER)' --store cluster tests/client_sdk tests/protocol tests/test_canaries.py \
		tests/server/services tests/server/transport tests/server/stores tests/server/test_nodes.py \
		tests/server/test_migrate.py tests/server/test_acl.py tests/server/test_oprf_key.py \
		tests/server/test_announcements.py tests/test_refusing.py tests/test_dictionary.py

fuzz: $(STAMP) ## mutated inputs to every decoder and to groups, and 100,000 mutated frames to a relay
	$(BIN)/python -m pytest tests/fuzz -q --inputs 500000 --seed $(SEED) --timeout 1800
	@$(BIN)/python -m pip install --quiet --group fuzz || echo "atheris cannot be installed here"
	@$(ATHERIS) --seconds 60; else $(NO_ATHERIS); fi
	$(BIN)/python -m pytest tests/server/transport/test_connection.py -q -k mutated --frames 100000 --seed $(SEED) --timeout 900

# MUTANTS="--sample 20" draws some of each module by the seed; what was tried is not tried again
mutants: $(STAMP) ## change the MLS modules in one place at a time: tests/crypto notices, or docs/mutation.md says why not; goes on where it was stopped
	nice $(BIN)/python tests/mutation/mutants.py --seed $(SEED) $(MUTANTS)

bench: $(STAMP) ## the relay alone on the first core, a short list of points, into benchmarks/results/bench.*
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.bench bench

bench-full: $(STAMP) ## the whole matrix, into benchmarks/results/full.*; goes on where it was stopped
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.bench full

bench-peers: $(STAMP) ## the relay beside others, which are installed without root; what cannot be is named
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.bench peers

bench-mls: $(STAMP) peers ## MLS beside ts-mls and rine-mls, into benchmarks/results/mls.*; goes on where it was stopped
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.mls

timing: $(STAMP) ## answers that must not differ in time, 10,000 interleaved tries each
	$(BIN)/python -m benchmarks.timing --seed $(SEED)

clean: ## remove what the targets made
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
