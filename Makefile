# The verbs. Each sets up what it needs: uv in .uv/, packages in .venv/. All that is installed is named in requirements.lock and verified by its hash there.
# Needs python3 (3.11 or newer) with pip, and make. Parameters: PYTHON=…, ARGS="…" for serve, test and bench, EXTRAS="postgres s3" for install and serve, UPGRADE=1 for lock.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := .uv/bin/uv
BIN := .venv/bin
INTO := --python $(BIN)/python

# nginx lives in sbin, which is not on every user's path.
export PATH := $(PATH):/usr/sbin:/sbin
export UV_PYTHON_DOWNLOADS := never
ifeq ($(HOME),)
export UV_CACHE_DIR ?= $(CURDIR)/.uv/cache
endif

# What the tests run besides Python: command:package, as Debian names them.
TOOLS := chromium-headless-shell:chromium-headless-shell nginx:nginx caddy:caddy strace:strace curl:curl wget:wget aria2c:aria2 openssl:openssl node:nodejs npm:npm

.PHONY: install serve test tools check bench bench-guard lock clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

# What serving needs, and no more: for a machine on which something else starts it (deploy/systemd).
install: .venv/run.stamp $(if $(EXTRAS),.venv/run.$(subst $() ,+,$(EXTRAS)).stamp)

serve: install
	$(BIN)/mediacdn serve $(ARGS)

# The official client of tus for browsers, which tests run in one: as its registry has it, and what it has to be.
TUS := .test/tus-js-client-4.3.1.tgz
TUS_SHA512 := ZLeYmjrkaU1fUsKbIi8JML52uAocjEZtBx4DKjRrqzrZa0O4MYwT6db+oqePlspV+FxXJAyFBc/L5gwUi2OFsg==

# Tests wait as much as they compute: three at once on two processors.
test: tools .venv/dev.stamp $(TUS)
	$(BIN)/pytest -n $$(( $$(nproc) * 3 / 2 )) --maxprocesses 6 --dist loadscope --no-loadscope-reorder $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_docs.py

bench: TOOLS += wrk:wrk varnishd:varnish
bench: tools .venv/dev.stamp
	$(BIN)/python -m benchmarks $(ARGS)

# Fails when a ratio to nginx, measured in the same run, lies more than 15 % under benchmarks/guard.json. For a quiet machine; ARGS=--record writes the file.
bench-guard: TOOLS := nginx:nginx wrk:wrk
bench-guard: tools .venv/dev.stamp
	$(BIN)/python -m benchmarks.guard $(ARGS)

# As root the missing ones are installed; otherwise the line to run is printed. Nothing is tested less for want of a tool.
tools:
	@missing=; \
	for each in $(TOOLS); do command -v $${each%%:*} >/dev/null || missing="$$missing $${each#*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "The tests need more tools; as root: apt-get install -y --no-install-recommends$$missing" >&2; exit 1; fi; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing

$(TUS): | tools
	@mkdir -p $(@D)
	cd $(@D) && npm pack --silent --ignore-scripts tus-js-client@4.3.1
	@test "$$(openssl dgst -sha512 -binary $@ | openssl base64 -A)" = "$(TUS_SHA512)" || { echo "$@ is not what it should be" >&2; rm -f $@; exit 1; }

lock: | $(UV)
	$(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --all-extras --group dev --group load $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock

clean:
	rm -rf .uv .venv .test dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip refuses to touch Debian's own packages; a folder of our own is nobody's.
$(UV):
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| { echo "Python 3.11 or newer with pip is missing; as root: apt-get install -y python3 python3-pip" >&2; exit 1; }
	@mkdir -p .uv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .uv/uv.txt
	$(PYTHON) -m pip install -q --disable-pip-version-check --root-user-action=ignore --require-hashes --target .uv -r .uv/uv.txt

.venv/bin/python: | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv

# Only what serving needs, each package at the version and hash of the lock.
.venv/run.stamp: requirements.lock pyproject.toml | .venv/bin/python
	$(UV) pip install -q --compile-bytecode $(INTO) --require-hashes -r pyproject.toml -c requirements.lock
	$(UV) pip install -q $(INTO) --no-deps -b requirements.lock -e .
	@touch $@

# The same with extras, such as EXTRAS=postgres.
.venv/run.%.stamp: requirements.lock pyproject.toml .venv/run.stamp
	$(UV) pip install -q --compile-bytecode $(INTO) --require-hashes -r pyproject.toml $(addprefix --extra ,$(EXTRAS)) -c requirements.lock
	@touch $@

.venv/dev.stamp: requirements.lock pyproject.toml | .venv/bin/python
	$(UV) pip sync -q --compile-bytecode $(INTO) --require-hashes requirements.lock
	$(UV) pip install -q $(INTO) --no-deps -b requirements.lock -e .
	@touch .venv/run.stamp $@
