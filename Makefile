# Each target sets up what it needs: a virtual environment in .venv with pinned versions.
# The first Python on the PATH that is new enough and really runs.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
# The tests of the CSM engine need torch; TEST_EXTRAS=local,dev does without it, and skips them.
TEST_EXTRAS ?= local,csm,quantize,dev
# Files of tests side by side; but for those that play calls in real time or measure: each of these is alone.
TEST_WORKERS ?= 2
REAL_TIME := tests/e2e tests/faults/test_soak.py tests/faults/test_echoed_keys.py tests/faults/test_shipped_agent.py tests/install tests/runpod_server/bench tests/runpod_server/engine/test_csm_crowd.py

.PHONY: help demo test test-clients lint format clean

help:
	@echo "make demo   a whole spoken call on this machine: no key, no GPU, no download of models"
	@echo "make test   ruff, mypy, import-linter and pytest"
	@echo "make test-clients   OpenAI's clients, Pipecat, LiveKit Agents and wyoming-openai against the speech server"
	@echo "make lint   the first three; make format mends what can be mended"

demo: $(VENV)/.for-demo
	$(BIN)/voice-agent demo

test: lint
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile $(REAL_TIME:%=--ignore=%)
	$(BIN)/pytest $(REAL_TIME)
	@echo "Left out: other people's clients, which are fetched from PyPI and npm. They run with: make test-clients"

test-clients: $(VENV)/.for-test
	$(BIN)/pytest tests/clients -rs

lint: $(VENV)/.for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.for-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.for-demo: pyproject.toml constraints.txt
	$(call install,local)

$(VENV)/.for-test: pyproject.toml constraints.txt
	$(call install,$(TEST_EXTRAS))
	@touch $(VENV)/.for-demo

define install
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Install it, or: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'
	@touch $@
endef

clean:
	rm -rf $(VENV) .cache demo-out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
