"""What the checkpoint tests share: the golden files, and the real ones beside the repository."""

import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "goldens"))


def same(checkpoint, tensors):
    """Asserts that a checkpoint holds exactly these tensors."""
    assert set(checkpoint) == set(tensors)
    for name, tensor in tensors.items():
        assert checkpoint.shape(name) == tensor.shape
        assert checkpoint.dtype(name) == tensor.dtype.newbyteorder("<")
        array = checkpoint[name]
        assert (array.shape, array.dtype) == (checkpoint.shape(name), checkpoint.dtype(name))
        np.testing.assert_array_equal(array, tensor)


@pytest.fixture(scope="session")
def assert_same():
    return same


@pytest.fixture(scope="session")
def goldens():
    return TESTS / "goldens" / "checkpoints"


@pytest.fixture(scope="session")
def shared():
    """The directory of real checkpoints beside the repository."""
    directory = TESTS.parents[1] / "shared" / "checkpoints"
    if not directory.is_dir():
        pytest.skip("needs the real checkpoints of ../shared")
    return directory
