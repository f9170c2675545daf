# make run    set everything up, bring up the suite, ask a real model a question through the queue
# make test   set everything up and run the tests with what this machine has
# make setup  only set everything up
PY := .venv/bin/python
TEST_PROCESSES ?= 2
INPUTS := requirements-bootstrap.lock requirements-engine.lock $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)

.PHONY: setup run up down test check audit test-vllm bench bench-rivals faults chaos soak test-deps lock env docs format clean
setup: .venv/.run-ready

run: .venv/.run-ready
	@.venv/bin/compute run

up: .venv/.run-ready
	@.venv/bin/compute up

down: .venv/.run-ready
	@.venv/bin/compute down

test: .venv/.dev-ready
	@$(PY) -m pytest -n $(TEST_PROCESSES) --no-loadscope-reorder --cache-clear $(ARGS) || { \
	  [ $$? = 1 ] || exit 2; \
	  echo "What failed beside other tests runs once more, alone: what passes now is a flake, named above, to be mended."; \
	  $(PY) -m pytest --last-failed --last-failed-no-failures none --maxfail 3 -v; }

check: .venv/.dev-ready
	@scripts/check.sh

audit: .venv/.dev-ready
	@scripts/audit.sh

test-vllm: .venv/.dev-ready .vllm/.ready
	$(PY) -m pytest tests/vllm -s $(ARGS)

bench: .venv/.dev-ready
	$(PY) -m pytest tests/perf -s $(ARGS)

bench-rivals: .venv/.dev-ready .rivals/.ready
	$(PY) -m pytest tests/perf/test_queue_rivals.py -s $(ARGS)

faults: .venv/.dev-ready
	FAULT_RUNS=500 FAULT_SECONDS=3600 FAULT_CLUSTERS=4 $(PY) -m pytest tests/faults -s $(ARGS)

chaos: .venv/.dev-ready
	CHAOS_SECONDS=$(or $(CHAOS_SECONDS),600) $(PY) -m pytest tests/faults/test_chaos.py -s $(ARGS)

soak: .venv/.dev-ready
	SOAK_SECONDS=$(or $(SOAK_SECONDS),1800) $(PY) -m pytest tests/perf/test_soak.py -s $(ARGS)

test-deps:
	@scripts/test-deps.sh

format: .venv/.dev-ready
	.venv/bin/ruff check -q --fix . ; .venv/bin/ruff format -q .

lock: .venv/bin/uv
	@scripts/lock.sh

env: .venv/.run-ready
	@$(PY) scripts/env_example.py > env.shared.example

docs: .venv/.dev-ready
	@$(PY) -m scripts.dashboards
	@$(PY) -m scripts.api_reference > docs/api.md
	@$(PY) -m scripts.nats_reference > docs/nats-subjects.md
	@$(PY) -m scripts.nats_reference --asyncapi > docs/asyncapi.yaml

clean:
	rm -rf .venv .vllm .rivals .compute


.venv/bin/uv:
	@scripts/setup.sh uv

.vllm/.ready: requirements-vllm.lock .venv/bin/uv
	@scripts/vllm.sh

.rivals/.ready: requirements-rivals.lock .venv/bin/uv
	@scripts/rivals.sh

.venv/.run-ready: requirements.lock $(INPUTS)
	@scripts/setup.sh run

.venv/.dev-ready: requirements-dev.lock $(INPUTS)
	@scripts/setup.sh dev
