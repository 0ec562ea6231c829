# Everything here makes its own virtual environment and installs what it needs.
PYTHON  ?= python3
VENV    ?= .venv
# tensorflow, jax or torch
BACKEND ?= tensorflow

PY      := $(VENV)/bin/python
# quiet: TensorFlow's notes about the processor help nobody here
export TF_CPP_MIN_LOG_LEVEL ?= 3

INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test check format bench clean

quickstart: $(VENV)/.installed-$(BACKEND)
	KERAS_BACKEND=$(BACKEND) $(PY) examples/quickstart.py $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.installed-$(BACKEND) $(VENV)/.installed-test
	KERAS_BACKEND=$(BACKEND) $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

check: $(VENV)/.installed-check
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

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
	rm -rf .venv .venv-bench build *.egg-info
