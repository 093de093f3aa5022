# Everything runs from .venv, which `make setup` fills. KEEP=1 (demo) leaves the services up; `make down` ends them.
SHELL := /bin/bash
PYTHON := .venv/bin/python
STATE := .state/demo
export PYTHONPATH := docker

.PHONY: setup test lint demo down bench coverage proto failover chaos

setup:
	@docker/setup.sh

test: setup
	$(PYTHON) -m pytest $(ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache

demo: setup
	KEEP=$(KEEP) $(PYTHON) docker/demo.py --state $(STATE)

chaos: setup
	$(PYTHON) docker/chaos.py --state .state/chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

down:
	@if [ -x $(PYTHON) ]; then for state in $(STATE) .state/chaos; do $(PYTHON) -m localstack down --state $$state; done; fi

bench: setup
	$(PYTHON) benchmarks/drain.py $(ARGS)

failover: setup
	$(PYTHON) benchmarks/failover.py --runs $(or $(RUNS),20) $(ARGS)

coverage: setup
	$(PYTHON) -m pytest --cov --cov-report=term $(ARGS)

proto: setup
	$(PYTHON) -m grpc_tools.protoc -I . --python_out=. --pyi_out=. airflow_kafka_exactly/adapters/channel/*.proto
