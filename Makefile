# `make demo` and `make test` do all their own set-up: Python 3.11, pip and make are enough.
# After set-up nothing here needs a network, but for the model that `make demo` fetches once.

BIN := .venv/bin
SOURCES := src tests

# What a test must not depend on: a model hub, and how many threads happen to be free.
TEST_ENVIRONMENT := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 OMP_NUM_THREADS=1

# Two processes; a file's tests stay in one, with what they share. With 1 a debugger can be used. Files come in their
# order: by their number of tests, as pytest-xdist would have them, the longest test of all is the last and alone.
PROCESSES := 2
DIVISION := --dist loadfile --no-loadscope-reorder

# Runs one stage and says how long it took:  $(call stage,name,command)
define stage
@echo "==> $(1)"; started=$$(date +%s); \
if $(2); then echo "==> $(1): $$(($$(date +%s) - started)) s"; \
else echo "==> $(1): FAILED after $$(($$(date +%s) - started)) s"; exit 1; fi
endef

.PHONY: help install demo test test-all checks bench format docs clean

help:
	@echo "make demo      three clinics fine-tune a small language model together, on this machine"
	@echo "make install   Confide with everything for development, into .venv"
	@echo "make test      format, lint, types, import contracts, tests, quick benchmarks, a run end to end"
	@echo "make test-all  the same, with the slow tests and those for a GPU"
	@echo "make bench     training speed against TRL and a plain loop; DATA=FILE names the rows to train on"
	@echo "make format    format the code and fix what the linter can"
	@echo "make docs      write the generated pages of docs/ again"
	@echo "make clean     remove .venv and the caches"

# Two stamps: what using Confide needs, and what developing it needs. The second contains the first.
.venv/.installed: pyproject.toml constraints.txt
	@scripts/set-up
	@touch $@

.venv/.installed-dev: pyproject.toml constraints.txt
	@scripts/set-up '[dev]'
	@touch .venv/.installed $@

install: .venv/.installed-dev

demo: .venv/.installed
	@$(BIN)/confide demo

checks: .venv/.installed-dev
	$(call stage,format,$(BIN)/ruff format --check --quiet $(SOURCES))
	$(call stage,lint,$(BIN)/ruff check --quiet $(SOURCES))
	$(call stage,types,$(BIN)/mypy)
	$(call stage,import contracts,$(BIN)/lint-imports --no-cache --no-logo)

test: checks
	$(call stage,tests,$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -q -n $(PROCESSES) $(DIVISION) --ignore=tests/test_end_to_end.py)
	$(call stage,quick benchmarks,$(TEST_ENVIRONMENT) $(BIN)/confide bench training --model tiny-llama --rows 8 --max-tokens 768 --batch-size 4 --threads 1 --repeats 1 && $(TEST_ENVIRONMENT) $(BIN)/confide bench sealing --values 65536 --clients 3 && $(TEST_ENVIRONMENT) $(BIN)/confide bench audit --records 8 --rounds 1 --max-tokens 400 --repeats 1 && $(TEST_ENVIRONMENT) $(BIN)/confide bench privacy --rows 4 --batch-size 2 --max-tokens 400 --repeats 1)
	$(call stage,end to end,$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -q tests/test_end_to_end.py)

test-all: test
	$(call stage,slow and GPU tests,$(BIN)/python -m pytest -q -m 'slow or gpu')

bench: .venv/.installed-dev
	@$(BIN)/confide bench training $(if $(DATA),--data $(DATA))

format: .venv/.installed-dev
	@$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

docs: .venv/.installed-dev
	@mkdir -p docs
	@$(BIN)/python -m confide.config.describe >docs/.new
	@mv docs/.new docs/configuration.md
	@echo "wrote docs/configuration.md"

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
