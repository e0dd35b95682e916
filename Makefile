# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One more than the cores that most have: many a test waits for a server or a browser.
JOBS ?= 3
ROOT := $(shell test "$$(id -u)" = 0 || echo sudo -n)
# Several processes share the cores: one thread each, or their spin barriers fight.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

# A file's tests share what they prepare, so one process runs all of them; tests/conftest.py has the order.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: install browser demo space test lint docs unit interop engines gpu gpu-bundle clean

install: $(VENV)/.installed

# torch comes first and by exact pin: a CPU wheel. Plain `torch` would bring gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/hubq publish recipes/demo_gptq_4bit.yaml --hub local
	$(BIN)/hubq publish recipes/demo_rtn_4bit.yaml --hub local
	$(BIN)/hubq chat hubq-demo/SmolLM2-135M-Instruct-GPTQ-4bit --hub local --beside base "What is photosynthesis?"

# The releases of `make demo` in the embedded hub, and the reports of those in model_cards.
space: install
	$(BIN)/hubq space run $(wildcard model_cards) --org hubq-demo --hub local

# Side by side: mypy works in the moments in which tests wait.
test: install browser
	$(MAKE) --jobs=2 lint docs unit

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# A link that leads nowhere stops it; not with --quiet, which hides warnings from --strict too.
# The notice that is turned off says that Material for MkDocs is kept until May 2027 only.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The Space's tests drive Debian's chromium; where it can't be had they say so and are skipped.
browser:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && $(ROOT) apt-get update -qq && \
	$(ROOT) apt-get install -qq --no-install-recommends chromium fonts-dejavu-core; \
	} || echo "no chromium here: install it to run the tests in a browser"

unit: install
	$(ONE_THREAD) $(BIN)/pytest --numprocesses $(JOBS) $(BY_FILE)

clean:
	rm -rf $(VENV) build *.egg-info

# Loads our gptq and awq folders with the libraries that own these formats. They want a torch of
# their own (with CUDA, about 8 GB), so this is neither in hubq's environment nor in CI.
INTEROP := build/interop
interop: $(INTEROP)/.installed
	PYTHONPATH=.:tests $(INTEROP)/bin/python tests/interop/load.py

$(INTEROP)/.installed: tests/interop/requirements.txt
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/pip install --quiet --requirement tests/interop/requirements.txt
	touch $@

# Gives engines what hubq writes, and compares their answers with those of transformers: makes an
# environment for each (2.5 GB of vLLM on a CPU), and writes engines.json and docs/engines.md.
ENGINES ?= .engines
NAMES ?=
engines: install
	TQDM_DISABLE=1 PYTHONPATH=$(CURDIR):$(CURDIR)/bench:$(CURDIR)/tests \
	$(BIN)/python -m engines $(ENGINES) $(NAMES)

# Checks hubq on this machine's GPU, or smaller on its CPU, in nine minutes at most: a table, and an
# error if anything failed. Without an environment, the bundle's wheels lie beside the packages of
# the Python at hand, whose torch sees the GPU; neither that Python nor a network is touched.
BUNDLE := $(CURDIR)/build/gpu
gpu:
	@python=$(PYTHON); \
	if [ -x $(BIN)/python ]; then python=$(BIN)/python; \
	elif $(PYTHON) -P -c 'import hubq' 2>/dev/null; then :; \
	elif [ -d $(BUNDLE)/wheels ]; then $(PYTHON) -m pip install --quiet --no-index --no-deps \
		--upgrade --target $(BUNDLE)/packages $(BUNDLE)/wheels/*.whl || exit; \
	else $(MAKE) install && python=$(BIN)/python || exit; fi; \
	PYTHONPATH=$(CURDIR):$(CURDIR)/bench:$(BUNDLE)/packages $$python -m gpu

# What `make gpu` needs elsewhere: real blocks, and wheels for Python 3.12 on Linux. 64 MiB at most.
gpu-bundle: install
	PYTHONPATH=$(CURDIR):$(CURDIR)/bench $(BIN)/python -m gpu.bundle
