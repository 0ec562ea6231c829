"""Lets the tests import the golden recipes, quietens TensorFlow, and fixes every random choice."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compiling such small models takes longer than running them: XLA need not try hard.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
sys.path.insert(0, str(Path(__file__).parent))

import keras
import pytest
from hypothesis import settings

if keras.backend.backend() == "torch":
    import torch

    torch.set_num_threads(1)  # threads cost small tensors more than they bring

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
