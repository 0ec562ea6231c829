"""From raw text to a pretrained checkpoint; run from the root of the repository, see README.md."""

import os

# PyTorch on a processor: large pages for large tensors, a sixth faster; read when it is imported
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
