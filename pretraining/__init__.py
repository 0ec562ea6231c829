"""Pretraining, from raw text to a checkpoint; see README.md."""

import os

# PyTorch on a CPU: huge pages for large tensors, a sixth faster; read when PyTorch is imported
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
