# Everything a checkout can do. `make VENV=/path/to/env TARGET` uses that environment instead of .venv.
# Written for the make of Debian, Ubuntu and macOS alike (GNU make 3.81 and later).
VENV ?= .venv
PYTHON ?= python3
OUT ?= demo-out

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCHVISION := $(shell sed -n 's/^torchvision==//p' constraints.txt)
# A stamp is a file whose age says when its install last succeeded. Kept in VENV, so each environment has its own.
RUNTIME := $(VENV)/.clipmill-runtime
DEV := $(VENV)/.clipmill-dev
OPEN_CLIP := $(VENV)/.clipmill-open-clip
# The pins need 3.11 (numpy, pandas and others dropped 3.10); an older Python resolves pyproject.toml's ranges.
PINS = $$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')

# `apt_install NAMES` succeeds where it may: as root, on Debian and its kin. What apt-get prints is shown if it fails.
APT_INSTALL = apt_install() { \
	[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || return; \
	echo "installing $$*"; \
	log=$$( { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		-o DPkg::Lock::Timeout=120 --no-install-recommends "$$@"; } 2>&1 </dev/null) || { echo "$$log" >&2; return 1; }; }

.DEFAULT_GOAL := help
.PHONY: help venv dev programs demo test test-fast check bench bench-gpu bench-peers tiny release examples clean

# Tests, benchmarks and the demo reach nothing but loopback; Ray would otherwise report its usage.
export RAY_USAGE_STATS_ENABLED = 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(RUNTIME) ## an environment that runs clipmill (3 minutes the first time)

dev: $(DEV) $(OPEN_CLIP) ## the same, with the Python packages that the tests and checks need

# Where they may not be installed, the tests that need them are skipped: tests/kit/needs.py says which, and names them.
programs: $(DEV) ## Chromium, Ceph and git, which some tests need, from Debian's packages (as root)
	@$(APT_INSTALL); $(BIN)/python tests/kit/needs.py | while read -r packages; do apt_install $$packages || true; done

demo: $(RUNTIME) ## make a sample dataset, then embed, label, search and filter it, into demo-out/
	$(BIN)/clipmill demo --out $(OUT)

# Two processes, each with a Ray cluster of its own: many tests wait for processes to start and to die. In the order of
# the folders: by default the files with few tests come last, which are the longest, and one process waits at the end.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder

# Several processes share a core in tests: OpenMP's threads are to sleep where they wait, and not to spin, which takes
# half of the time of those beside them. Benchmarks have it as users do.
test test-fast: export OMP_WAIT_POLICY = PASSIVE

test: programs $(OPEN_CLIP) ## the whole test suite
	$(PYTEST)

test-fast: programs $(OPEN_CLIP) ## the tests that take less than a minute each
	$(PYTEST) -m "not long"

# mypy does not follow an editable install's import hook: build/mypy/clipmill is the package as it will be imported.
check: $(DEV) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/mypy && ln -sfn ../.. build/mypy/clipmill
	$(BIN)/mypy -p clipmill.clipmodel -p clipmill.pipeline -p clipmill.jobs

bench: $(DEV) $(OPEN_CLIP) ## every benchmark (15 minutes on 2 cores): one table, and bench.json
	$(BIN)/python tests/bench/run.py

bench-gpu: $(DEV) ## encoders, bytes to embeddings and whole runs on a GPU (8 minutes): bench-gpu.json
	$(BIN)/python tests/bench/bench_gpu.py --json bench-gpu.json

bench-peers: build/peers/clip-retrieval/.built ## what `make bench` compares with and cannot import: clip-retrieval

tiny: $(RUNTIME) ## train again the tiny model that is shipped in clipmodel/assets
	$(BIN)/python -m clipmill.jobs.tiny

release: $(DEV) ## build the wheel and the sdist into dist/, and check them
	$(BIN)/python tests/kit/release.py dist

examples: $(RUNTIME) ## render again what infra/kuberay and jobs/examples keep of the example specifications
	$(BIN)/python -m clipmill.jobs.examples

clean: ## back to a fresh clone: all that make made here, .venv included (an overriding VENV is left alone)
	rm -rf .venv build dist demo-out clipmill.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# bin/pip, not the folder: `python3 -m venv` without ensurepip (Debian without python3-venv) leaves an environment
# that has no pip, which the next run must not take for a good one.
#
# PyPI's torch for Linux brings gigabytes of CUDA, so without an NVIDIA driver the CPU build is asked for first;
# where no index that pip knows has one, PyPI's serves.
$(RUNTIME): pyproject.toml constraints.txt
	@$(APT_INSTALL); [ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	|| { apt_install python3-venv && $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } \
	|| { echo "'$(PYTHON) -m venv $(VENV)' failed: install Python 3.10 or newer with its venv module" \
		"(Debian, Ubuntu, as root: apt-get install python3-venv), then run make again" >&2; exit 1; }
	@echo "installing clipmill's dependencies into $(VENV) (minutes the first time)"
	@{ ! command -v nvidia-smi >/dev/null && $(PIP) install -qq "torch==$(TORCH)+cpu" 2>/dev/null; } \
	|| $(PIP) install -qq "torch==$(TORCH)"
	@$(PIP) install -qq $(PINS) -e '.[serve]'  # the demo's last line is to work
	@touch $@

# The tests read two files of clip-anytorch as the reference and never import the package. It depends on
# torchvision, which is large and has no build for the CPU torch above: hence --no-deps, and not in the dev extra.
# Triton's interpreter runs the GPU's kernels on a CPU; torch for GPUs brings the Triton that it wants.
$(DEV): $(RUNTIME)
	@echo "installing the tests' and checks' dependencies into $(VENV)"
	@$(PIP) install -qq $(PINS) -e '.[dev]'
	@$(PIP) install -qq $(PINS) --no-deps clip-anytorch \
		'triton==3.9.0; platform_system == "Linux" and platform_machine == "x86_64"'
	@touch $@

# Beside the environment, not in it: transformers takes other image processors where it finds torchvision, whose wheels
# on PyPI do not fit the CPU torch either. tests/kit/open_clip_kit.py brings both together.
$(OPEN_CLIP): constraints.txt tests/kit/torchvision_operators.py | $(DEV)
	@echo "installing open_clip for the tests into $(VENV)/open_clip"
	@rm -rf $(VENV)/open_clip
	@$(PIP) install -qq $(PINS) --no-deps --target $(VENV)/open_clip open_clip_torch timm \
		"torchvision==$(TORCHVISION)"
	@cp tests/kit/torchvision_operators.py $(VENV)/open_clip/sitecustomize.py
	@touch $@

build/peers/clip-retrieval/.built: tests/bench/peers/build_clip_retrieval.sh tests/bench/peers/clip_retrieval.txt
	@echo "building an environment for clip-retrieval (2 GB, minutes)"
	@PYTHON=$(PYTHON) tests/bench/peers/build_clip_retrieval.sh build/peers/clip-retrieval
