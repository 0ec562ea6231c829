"""Lets the tests import the golden recipes, quietens TensorFlow, and fixes every random choice.

`--part 3/8` runs a part of the tests, `--timings` records how long each takes: see timings.py.
"""

import gc
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compiling such small models takes longer than running them: XLA need not try hard. (The fusion
# emitters of the CPU alone cost 40 % of all tests on JAX.)
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false",
)
# To hand such small tensors to other threads, or to oneDNN, takes longer than to work on them.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# What JAX has compiled is kept for the other processes and the next time (42 % less the second
# time).
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
sys.path.insert(0, str(Path(__file__).parent))

import pytest
import timings
from hypothesis import settings

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    group = parser.getgroup("bert4keras_lite")
    group.addoption("--part", metavar="I/N", help="the I-th of N parts that take about as long")
    group.addoption("--timings", action="store_true", help="records CPU seconds in timings.tsv")


def pytest_configure(config):
    if config.getoption("--timings"):
        config.pluginmanager.register(timings.Recorder(config, BACKEND), "timings")


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("--part")
    if not asked:
        return
    numbers = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", asked)
    if not numbers or int(numbers[1]) > int(numbers[2]):
        raise pytest.UsageError(f"--part: expected such as 3/8, got {asked}.")
    part = timings.part_of([item.nodeid for item in items], *map(int, numbers.groups()), BACKEND)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in part])
    items[:] = [item for item in items if item.nodeid in part]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    if BACKEND == "torch":
        import torch

        torch.set_num_threads(1)  # threads cost small tensors more than they bring


@pytest.fixture(autouse=True)
def _seed():
    import keras  # here: xdist's first process, which runs no test, need not wait for it

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect():
    """What a module has left is cleared, or put where the garbage collector does not look again.

    TensorFlow keeps every graph: after a thousand tests a full collection takes seconds.
    """
    yield
    import keras

    keras.utils.clear_session()
    gc.collect()
    gc.freeze()
