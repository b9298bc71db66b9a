# What can be done with a checkout. Every target gets what it needs by itself: Debian packages (tests/packages.txt),
# virtual environments (tests/requirements*.txt).

# The system's own: Debian compiles it with optimisations that others may lack, which makes the tests a tenth faster.
PYTHON ?= /usr/bin/python3
BOOTSTRAP = $(PYTHON) tests/bootstrap.py
PYTEST = .venv/bin/python -m pytest

# What the hosts of the tests boot from.
BASES = bookworm+engine trixie+engine forky+engine trixie+workstation forky+controller trixie+dnf forky+dnf5 trixie+zypper
BASES += trixie+runner

.DEFAULT_GOAL := help
.PHONY: help python venv lint unit quality sanity changelog docs farm demo test test-long test-matrix release-check mutants bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "installing Debian packages: python3"; \
		$$([ "$$(id -u)" = 0 ] || echo sudo) sh -c 'apt-get -q update && apt-get -q -y install --no-install-recommends python3' >/dev/null; }

venv: python ## the virtual environment of the tests
	@$(BOOTSTRAP) packages venv
	@$(BOOTSTRAP) venv

lint: venv ## ruff and mypy, in seconds
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@$(PYTEST) -q tests/quality -k mypy

unit: venv ## unit tests: no Docker, no hosts
	@$(PYTEST) -q --numprocesses auto --dist worksteal tests/unit

quality: venv ## all checks of the Ansible ecosystem
	@$(BOOTSTRAP) packages quality
	@$(PYTEST) -q --durations=0 --durations-min=1 tests/quality

sanity: venv ## ansible-test sanity alone
	@$(BOOTSTRAP) packages quality
	@$(PYTEST) -q tests/quality -k ansible_test_sanity

changelog: venv ## CHANGELOG.md from the fragments, and from what modules and roles say of themselves
	@$(BOOTSTRAP) venv quality
	@PATH="$(CURDIR)/.venv-quality/bin:$$PATH" antsibull-changelog release --reload-plugins --refresh-plugins

docs: venv ## the documentation as a site, .build/docs/html
	@$(BOOTSTRAP) packages quality
	@.venv/bin/python tests/docs.py

farm: venv
	@$(BOOTSTRAP) packages farm $(if $(filter-out 0,$(ARM64)),arm64)

demo: farm ## the main job on a farm of real hosts here; ARM64=1: with a real arm64 machine
	@.venv/bin/python tests/demo.py

test: farm ## every test, on a farm of real hosts here
	@$(BOOTSTRAP) packages quality
	@.venv/bin/python tests/farm prepare $(BASES)
	@.venv/bin/python tests/measured.py \
		$(PYTEST) -q --numprocesses 3 --dist loadgroup --no-loadscope-reorder --durations=15

test-long: farm ## 200 random builders and handlers, 2600 contexts, 100 faults, a large cache, all of AWX's jobs, a real arm64 machine
	@$(BOOTSTRAP) packages arm64
	@.venv/bin/python tests/farm prepare $(BASES) arm64
	@BUILDFARM_CASES=$${BUILDFARM_CASES:-200} $(PYTEST) -q -k 'from_any_state or within_its_limit' \
		tests/integration/test_builder.py tests/integration/test_binfmt_packages.py tests/integration/test_prune.py
	@BUILDFARM_CASES=2600 $(PYTEST) -q tests/integration/test_ignore.py
	@BUILDFARM_CASES=$${BUILDFARM_CASES:-100} $(PYTEST) -q -s tests/integration/test_faults.py
	@BUILDFARM_CASES=$${BUILDFARM_CASES:-10} $(PYTEST) -q -s tests/integration/test_together.py
	@BUILDFARM_ALL_JOBS=1 $(PYTEST) -q tests/integration/test_awx.py
	@ARM64=1 $(PYTEST) -q --durations=15 tests/integration/test_builder.py tests/integration/test_arm64.py

test-matrix: farm ## sanity, unit tests, site, build and verify with each ansible-core that is supported
	@$(BOOTSTRAP) packages quality
	@.venv/bin/python tests/farm prepare $(BASES)
	@BUILDFARM_CORES='$(or $(BUILDFARM_CORES),2.17 2.18 2.19 2.20 2.21)' $(PYTEST) -q --durations=15 \
		tests/integration/test_cores.py tests/quality -k 'site_build_verify or ansible_core_'

release-check: farm ## the tarball alone: documented by each ansible-core, and followed from its README on bare systems
	@$(BOOTSTRAP) packages quality
	@.venv/bin/python tests/release.py

mutants: venv ## whether the unit tests notice mistakes: random changes of plugins/module_utils, one at a time
	@.venv/bin/python tests/mutants.py

bench: farm ## ratios and their limits: 1 GB of sources, a converged farm, 30 nodes, 40 images, 100 certificates, 50 endpoints, 200 tags
	@.venv/bin/python tests/bench.py

clean: ## end every farm and put the machine back; what was built stays in /var/cache/buildfarm-multiarch
	@$(PYTHON) tests/farm --name all down
	@rm -rf .build/demo
