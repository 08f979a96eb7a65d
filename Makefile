# The project's verbs. Everything they need is installed into a cache outside the tree, keyed by version.
SHELL := /bin/bash
CACHE := $(or $(CUTOVER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cutover)
BOOTSTRAP := $(or $(BOOTSTRAP_PYTHON),python3)
VENV := $(CACHE)/venv/$(shell cat requirements-dev.lock | $(BOOTSTRAP) -c 'import hashlib,sys; print(f"py{sys.version_info.major}.{sys.version_info.minor}-" + hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:12])')
PYTHON := $(VENV)/bin/python
export PYTHONPATH := operator:hack
export CUTOVER_CACHE := $(CACHE)
STATE ?= $(CACHE)/stacks/default
TRY ?= $(CACHE)/stacks/try

.PHONY: help demo demo-stop try try-break try-heal try-stop test test-build test-long test-unit test-wiring test-kmock test-demoapps test-prometheus test-apiserver test-e2e lint format stack-build stack-up stack-down status logs crds docs dashboards diagrams site lock bench bench-full bench-record bench-gates bench-answers bench-users bench-sampler bench-scale bench-drain image image-push image-sign kind

help:  ## What can be done here
	@grep -hE '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/.ready: | requirements-dev.lock
	@$(BOOTSTRAP) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; point BOOTSTRAP_PYTHON at one")'
	@echo "installing the locked Python packages into $(VENV)"
	@rm -rf "$(VENV)" && $(BOOTSTRAP) -m venv "$(VENV)"
	@"$(VENV)/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

venv: $(VENV)/.ready  ## Install the locked Python packages
	@echo $(PYTHON)

stack-build: $(VENV)/.ready  ## Build the real programs of the stack, once
	@$(PYTHON) -m devstack build

demo: stack-build  ## Four cutovers under load on a real stack (KEEP=1 leaves it running)
	@$(PYTHON) -m demo $(if $(KEEP),--keep)

demo-stop: $(VENV)/.ready  ## Stop what make demo KEEP=1 left running
	@$(PYTHON) -m demo --stop

try: stack-build  ## A stack with users and one plan to play with; it says what to type
	@$(PYTHON) -m demo.playground --state "$(TRY)"

try-break try-heal try-stop: $(VENV)/.ready  ## Break its app on EKS; make it well again; stop everything
	@$(PYTHON) -m demo.playground --$(@:try-%=%) --state "$(TRY)"

test-build: $(VENV)/.ready  # the stack, and what only the tests need
	@$(PYTHON) -m devstack build --tests

test: test-build  ## All tests
	@$(PYTHON) -m run_tests $(ARGS)

test-unit test-wiring test-kmock: $(VENV)/.ready  ## One layer of the tests
	@$(PYTHON) -m run_tests --layer $(@:test-%=%) $(ARGS)

test-demoapps test-prometheus test-apiserver test-e2e: test-build
	@$(PYTHON) -m run_tests --layer $(@:test-%=%) $(ARGS)

test-long: test-build  ## What takes too long for all days; before a release
	@$(PYTHON) -m run_tests --long $(ARGS)

lint: $(VENV)/.ready  ## Style, types, import layers, generated files
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(PYTHON) -m cutover.api.crd --check
	@$(PYTHON) -m chart_values --check
	@$(PYTHON) -m dashboards --check
	@$(PYTHON) -m rooms --check
	@$(PYTHON) -m cutover.domain.preflight.docs --check
	@$(PYTHON) -m docs_site.diagrams --check

format: $(VENV)/.ready  ## Rewrite the sources in the project's style
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .

crds: $(VENV)/.ready  ## Generate the CRDs and the schema of the chart's values from the models
	@$(PYTHON) -m cutover.api.crd
	@$(PYTHON) -m chart_values

docs: $(VENV)/.ready  ## Generate what is made of the code: the checks, the rooms, the modules, the dashboards
	@$(PYTHON) -m cutover.domain.preflight.docs
	@$(PYTHON) -m rooms
	@$(PYTHON) -m dashboards

dashboards: $(VENV)/.ready  ## Generate the Grafana dashboards alone
	@$(PYTHON) -m dashboards

diagrams: $(VENV)/.ready  ## Draw the docs' diagrams that changed; needs npm and Chromium
	@$(PYTHON) -m docs_site.diagrams

site: $(VENV)/.ready  ## Build the documentation as a site in out/site, without a network
	@NO_MKDOCS_2_WARNING=true $(VENV)/bin/mkdocs build --quiet --strict

stack-up: stack-build  ## Start the development stack in the background
	@$(PYTHON) -m devstack up --state "$(STATE)"

stack-down: $(VENV)/.ready  ## Stop it
	@$(PYTHON) -m devstack down --state "$(STATE)"

status logs: $(VENV)/.ready  ## The stack's processes; the tail of their logs
	@$(PYTHON) -m devstack $@ --state "$(STATE)" $(ARGS)

bench: stack-build  ## What quiet plans cost
	@$(PYTHON) tests/bench/quiet.py $(ARGS)

bench-gates: $(VENV)/.ready  ## The gate beside other rules, simulated
	@$(PYTHON) tests/bench/gates.py $(ARGS)

bench-full: $(VENV)/.ready  ## Days at 100 %, and how soon a dead leg is left there, simulated
	@$(PYTHON) tests/bench/full.py $(ARGS)

bench-record: $(VENV)/.ready  ## What Heroku's record is worth at 100 % and above 50 %, simulated
	@$(PYTHON) tests/bench/full_record.py $(ARGS)

bench-answers: $(VENV)/.ready  ## The gate and the mix of answers, simulated
	@$(PYTHON) tests/bench/gates_answers.py $(ARGS)

bench-users: $(VENV)/.ready  ## The gate where users are drawn and not requests, simulated
	@$(PYTHON) tests/bench/gates_users.py $(ARGS)

bench-scale: stack-build  ## What a thousand plans cost
	@$(PYTHON) tests/bench/scale.py $(ARGS)

bench-sampler: stack-build  ## What the shared queries for blocks cost
	@$(PYTHON) tests/bench/sampler.py $(ARGS)

bench-drain: $(VENV)/.ready  ## Lines a second of the drain, beside a naive parser
	@PYTHONPATH=$(PYTHONPATH):. $(PYTHON) tests/bench/drain.py $(ARGS)

# As the commit has it, so that the same commit gives the same image.
IMAGE ?= cutover
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE_BUILD = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) docker buildx build --tag $(IMAGE):$(TAG) \
	--build-arg VERSION=$(TAG) --build-arg REVISION=$$(git rev-parse HEAD) \
	$(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE))

image:  ## Build the operator's image; needs Docker
	$(IMAGE_BUILD) --load .

image-push:  ## Build it for amd64 and arm64, and push it to IMAGE with its SBOM and provenance
	@mkdir -p out
	$(IMAGE_BUILD) --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max \
		--output type=image,push=true,rewrite-timestamp=true --metadata-file out/image.json .

kind:  ## A cluster of kind with Istio, Prometheus and the chart; needs Docker, kind, kubectl and Helm
	hack/kind/up.sh

image-sign:  ## Sign what was pushed, by its digest; needs cosign
	cosign sign --yes "$(IMAGE)@$$(sed -n 's/.*"containerimage.digest": "\([^"]*\)".*/\1/p' out/image.json)"

lock: $(VENV)/.ready  ## Renew the lock files from pyproject.toml
	@$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --extra operator -o requirements.lock
	@$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --extra operator --group dev -o requirements-dev.lock
