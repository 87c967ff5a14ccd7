# Everything from a fresh checkout: each target does the set-up it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test faults lint bench clean system-packages

run: .venv/installed
	$(BIN)/penstock run --config config/penstock.toml

# On all cores, up to four: most tests wait for processes of their own.
test: .venv/installed-dev system-packages
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# More of the tests that kill and break things: make faults N=5000
N ?= 1000
faults: .venv/installed-dev system-packages
	FAULTS=$(N) $(BIN)/python -m pytest tests/faults tests/adversaries

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-bench
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

.venv/installed-bench: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	touch $@ .venv/installed-dev .venv/installed

# Some tests need these; where they cannot be installed, the tests are skipped and say so.
system-packages:
	@if command -v cc >/dev/null && ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && command -v chromium >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=""; else as_root="sudo -n"; fi; \
	if command -v apt-get >/dev/null && $$as_root true 2>/dev/null; then \
		$$as_root apt-get update -qq && \
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends gcc libc6-dev postgresql chromium >/dev/null && exit 0; \
	fi; \
	echo "cc, postgresql or chromium is missing and cannot be installed from here: the tests that need them are skipped"
