# Two environments: .venv holds the product and its tools, .cache/venvs what must stay apart.
# The first Python here that is one of 3.10 to 3.13; `make PYTHON=...` takes another.
FITS := import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && exit; done; echo python3)
# flytekit has no release for 3.13, so what compares with it takes an older Python.
OLDER = $(shell for p in $(BIN)/python $(PYTHON) python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info[:2] > (3, 12))' 2>/dev/null && echo $$p && exit; done; echo python3.12)
# A distribution builds its Python with optimisation, and the image has Debian's (deploy/Dockerfile). One that was built
# without, as pyenv does, takes up to twice as long for the same code.
SYSTEM := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
BENCH_PYTHON ?= $(shell p=/usr/bin/python3; $$p -c '$(SYSTEM)' 2>/dev/null && echo $$p || echo $(OLDER))
# The BigQuery emulator needs exactly 3.13; without one its tests say so and are skipped.
NEWER := $(shell for p in python3.13 $$HOME/.pyenv/versions/3.13*/bin/python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && echo $$p && exit; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
LOCKED := --require-hashes --no-deps
DEMO := -e core -e plugins/duckdb
TEST := -e plugins/bigquery -e plugins/databricks -e plugins/snowflake -e examples/acme
MANIFESTS := core/pyproject.toml plugins/duckdb/pyproject.toml
PYTEST := $(BIN)/python -m pytest
# Most tests wait for processes and sockets, so more of them run side by side than there are cores.
WORKERS ?= 3
BESIDE := -n $(WORKERS) --dist loadfile

SDKS := .cache/venvs/flytekit/done .cache/venvs/flyte-sdk/done .cache/venvs/databricks/done \
	.cache/venvs/snowflake-driver/done
EMULATOR := $(if $(NEWER),.cache/venvs/local-bigquery/done)


.PHONY: help demo test quick versions check interop chaos spark bench sizes image deploy-check capacity clean
help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/demo.done ## run a real SQL job through a real agent server, and show its trace
	@$(BIN)/python examples/demo.py

test: .venv/test.done $(SDKS) $(EMULATOR) ## install what the tests need, and run them all
	$(PYTEST) $(BESIDE) -m "not alone" --ignore=tests/interop --ignore=tests/deploy
	$(PYTEST) -m alone --ignore=tests/interop --ignore=tests/deploy
	@$(MAKE) --no-print-directory versions

quick: .venv/test.done ## the tests that take milliseconds, in under a minute
	$(PYTEST) $(BESIDE) -m "not alone" tests/unit

# A kernel that runs on the oldest and the newest Python runs on those between.
versions: ## the kernel's tests on Python 3.10 and 3.13, where they are installed
	@for v in 3.10 3.13; do \
		found=; for p in python$$v $$HOME/.pyenv/versions/$$v*/bin/python; do \
			if $$p -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$$v')" 2>/dev/null; then found=$$p; break; fi; done; \
		if [ -z "$$found" ]; then echo "no Python $$v here: the kernel has not been tried on it"; continue; fi; \
		echo "the kernel on Python $$v"; \
		$(MAKE) --no-print-directory PYTHON=$$found .cache/venvs/py$$v/tested || exit 1; done

check: .venv/test.done ## style, types, layers and public surface
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core/src plugins/*/src examples/acme/src tests
	$(BIN)/lint-imports --no-logo
	$(PYTEST) tests/unit/test_surface.py

interop: .venv/test.done ## FlytePropeller's own code as the client; needs Go
	@command -v go >/dev/null || { echo "make interop needs Go (https://go.dev), which is not installed" >&2; exit 1; }
	$(PYTEST) $(BESIDE) tests/interop -rs

chaos: .venv/test.done ## the attacks, for longer than in the tests
	CHAOS_ROUNDS=500 $(PYTEST) tests/chaos -v

spark: .venv/test.done .cache/venvs/databricks-jvm/done ## Databricks' tasks on real Spark; needs a JVM
	@command -v java >/dev/null || { echo "make spark needs a JVM (java), which is not installed" >&2; exit 1; }
	FLYTEAGENTS_TEST_SPARK=jvm $(PYTEST) tests/databricks/test_sdk_tasks.py tests/databricks/test_commands.py -rs

bench: .cache/bench/flyteagents/made .cache/bench/flytekit/done .cache/bench/databricks/done ## side by side with flytekit's connector service; PARTS="slow memory" for some of it
	.cache/bench/flyteagents/bin/python -m tests.bench $(PARTS)

sizes: .venv/test.done ## how much code each layer holds, in tokens
	@$(BIN)/python -m tests.sizes

image: ## an image with PLUGINS="bigquery snowflake", by docker, podman or buildah
	@PLUGINS="$(PLUGINS)" deploy/build-image $(IMAGE_FLAGS)

# Its tools are in an environment of their own: none of them is needed to work on the product.
deploy-check: .venv/test.done .cache/venvs/deploy/done ## lint and try the image and the Helm chart
	tests/deploy/debian-packages
	$(PYTEST) -n 2 --dist loadfile tests/deploy -rs

capacity: .venv/test.done ## how many jobs a pod carries, measured here
	@$(BIN)/python -m tests.deploy.capacity

clean: ## remove what the other targets made
	rm -rf .venv .cache build

# An environment with the product and what its tests need; one with others' packages.
define product
	rm -rf $(@D)
	$(1) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check -q install $(LOCKED) -r requirements/test.txt
	$(@D)/bin/python -m pip --disable-pip-version-check -q install --no-deps --no-build-isolation $(DEMO) $(TEST)
	@touch $@
endef
define others
	@echo "making an environment for $(notdir $(@D))"
	rm -rf $(@D)
	$(1) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check -q install $(LOCKED) -r $(2)
	@touch $@
endef

.venv/made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"flyteagents needs Python 3.10 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}; run make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/demo.done: .venv/made requirements/demo.txt requirements/data.txt $(MANIFESTS)
	@echo "installing what the demo needs; the first time takes about a minute"
	$(PIP) install $(LOCKED) -r requirements/demo.txt
	$(PIP) install $(LOCKED) --no-build-isolation -r requirements/data.txt
	$(PIP) install --no-deps --no-build-isolation $(DEMO)
	@touch $@

.venv/test.done: .venv/demo.done requirements/test.txt $(wildcard plugins/*/pyproject.toml) examples/acme/pyproject.toml
	@echo "installing what the tests need"
	$(PIP) install $(LOCKED) -r requirements/test.txt
	$(PIP) install --no-deps --no-build-isolation $(TEST)
	@touch $@

.cache/venvs/deploy/done: requirements/deploy.txt | .venv/made
	$(call others,$(PYTHON),$<)

.cache/venvs/local-bigquery/done: requirements/local-bigquery.txt
	$(call others,$(NEWER),$<)

.PRECIOUS: .cache/venvs/py%/made
# Never made: the tests are run each time.
.cache/venvs/py%/tested: .cache/venvs/py%/made
	.cache/venvs/py$*/bin/python -m pytest $(BESIDE) -m "not alone" tests/unit tests/e2e/test_error_table.py

.cache/venvs/py%/made: requirements/test.txt core/pyproject.toml
	$(call product,$(PYTHON))

# What is compared runs on one Python, so each of it has an environment here.
.cache/bench/flyteagents/made: requirements/test.txt core/pyproject.toml
	$(call product,$(BENCH_PYTHON))

.cache/bench/%/done: requirements/%.txt
	$(call others,$(BENCH_PYTHON),$<)

# Real Spark takes the place of the client of Spark Connect: both are the package pyspark.
.cache/venvs/databricks-jvm/done: requirements/databricks.txt requirements/databricks-jvm.txt | .venv/made
	$(call others,$(OLDER),$<)
	@rm $@
	$(@D)/bin/python -m pip --disable-pip-version-check -q uninstall -y pyspark-client
	$(@D)/bin/python -m pip --disable-pip-version-check -q install $(LOCKED) -r $(word 2,$^)
	@touch $@

.cache/venvs/%/done: requirements/%.txt | .venv/made
	$(call others,$(OLDER),$<)
