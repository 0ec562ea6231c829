# Everything here makes its own virtual environment and installs what it needs.
PYTHON  ?= python3
VENV    ?= .venv
# tensorflow, jax or torch
BACKEND ?= tensorflow

PY      := $(VENV)/bin/python
# quiet: TensorFlow's notes about the processor help nobody here
export TF_CPP_MIN_LOG_LEVEL ?= 3
# compiled modules are kept: each process of the tests would compile them anew
unexport PYTHONDONTWRITEBYTECODE
# the processes of one run must collect the same tests in the same order
export PYTHONHASHSEED ?= 0

INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check

# all tests, or the I-th of eight parts of them: PART=I/8
PART    ?= 1/1

PYTEST  := KERAS_BACKEND=$(BACKEND) $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: quickstart smoke test test-all timings mutants chaos fuzz load check format bench clean

quickstart: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-pretraining
	KERAS_BACKEND=$(BACKEND) $(PY) examples/quickstart.py $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(DATA),--data "$(DATA)")

# a minute: imports, a small model, a fine-tuning, a generation
smoke: $(VENV)/.installed-$(BACKEND)
	KERAS_BACKEND=$(BACKEND) $(PY) tests/smoke.py

# what a contributor needs
test: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	$(PYTEST) -m "not long" $(ARGS)

# everything there is
test-all: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	$(PYTEST) --part $(PART) $(ARGS)

# records the CPU seconds of every test on a backend in tests/timings.tsv: run it on a quiet machine
timings: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	$(PYTEST) --timings $(ARGS)

# plants thirty defects, one after the other, and shows that the tests notice each
mutants: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	$(PY) tests/mutants.py --backend $(BACKEND) $(ARGS)

# kills saves and trainings at random moments, and shows that nothing is lost
chaos: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	KERAS_BACKEND=$(BACKEND) $(PY) tests/chaos.py $(ARGS)

# changes good files of every format at random, and shows that readers give right errors
fuzz: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	KERAS_BACKEND=$(BACKEND) $(PY) tests/fuzz.py $(ARGS)

# a real server under load, with clients that are good, bad, slow or gone
load: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	KERAS_BACKEND=$(BACKEND) $(PY) tests/load.py $(ARGS)

check: $(VENV)/.installed-check
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) tests/timings.py
	$(PY) tests/mutants.py --check

format: $(VENV)/.installed-check
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# the peers have needs of their own (torch, transformers, keras-hub, tf_keras), so a venv of their own
bench:
	$(MAKE) VENV=.venv-bench .venv-bench/.installed-tensorflow .venv-bench/.installed-jax .venv-bench/.installed-peers
	.venv-bench/bin/python benchmarks/run.py $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip

$(VENV)/.installed-torch: $(VENV)/bin/python setup.py
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable ".[torch]"
	touch $@

$(VENV)/.installed-peers: $(VENV)/bin/python benchmarks/requirements.txt setup.py
	$(INSTALL) torch==2.13.0
	$(INSTALL) --requirement benchmarks/requirements.txt
	$(INSTALL) --no-deps bert4keras==0.11.5 pytorch-crf==0.7.2
	touch $@

$(VENV)/.installed-%: $(VENV)/bin/python setup.py
	$(INSTALL) --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv .venv-bench .jax_cache build *.egg-info
