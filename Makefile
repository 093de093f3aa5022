# Everything runs from .venv, which `make setup` fills. KEEP=1 (demo) leaves the services up; `make down` ends them.
SHELL := /bin/bash
PYTHON := .venv/bin/python
STATE := .state/demo
export PYTHONPATH := docker

SEEDS ?= 2000
FIRST ?= 1
MODE ?= normal
JOBS ?= 1

.PHONY: setup test simulate mutants interleave lint demo down bench coverage proto failover triggers chaos soak

setup:
	@docker/setup.sh

test: setup
	$(PYTHON) -m pytest $(if $(filter-out 1,$(JOBS)),-p side_by_side -n $(JOBS) --no-loadscope-reorder) $(ARGS)

# Whole runs in virtual time, each drawn from one seed. MODE=oracle: votes at random; MODE=enumerate: a stop at every step.
simulate: setup
	PYTHONPATH=tests:. $(PYTHON) -m simulation.run --seeds $(SEEDS) --first $(FIRST) --mode $(MODE)

# The ledger's operations against each other on PostgreSQL, stopped between any two statements of its functions.
interleave: setup
	PYTHONPATH=tests:.:docker $(PYTHON) -m interleavings.run $(ARGS)

# Plants one fault after the other; the simulator looks for it, and the interleavings for those in the SQL.
mutants: setup
	PYTHONPATH=tests:.:docker $(PYTHON) -m simulation.mutants --seeds $(SEEDS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache

demo: setup
	KEEP=$(KEEP) $(PYTHON) docker/demo.py --state $(STATE)

chaos: setup
	$(PYTHON) docker/chaos.py --state .state/chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

# Seeds that nobody ran, in turns, for MINUTES or until stopped; PARTS="simulate" for one part only.
soak: setup
	$(PYTHON) docker/soak.py --state .state/soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(PARTS),--parts $(PARTS)) $(ARGS)

down:
	@if [ -x $(PYTHON) ]; then for state in $(STATE) .state/chaos; do $(PYTHON) -m localstack down --state $$state; done; fi

bench: setup
	$(PYTHON) benchmarks/drain.py $(ARGS)

failover: setup
	$(PYTHON) benchmarks/failover.py --runs $(or $(RUNS),20) $(ARGS)

# Waiting triggers in one process, beside others': by default 300 on three brokers, with a soft limit of 1,024 open files.
triggers: setup
	$(PYTHON) benchmarks/triggers.py $(ARGS)

coverage: setup
	$(PYTHON) -m pytest --cov --cov-report=term $(ARGS)

proto: setup
	$(PYTHON) -m grpc_tools.protoc -I . --python_out=. --pyi_out=. airflow_kafka_exactly/adapters/channel/*.proto
