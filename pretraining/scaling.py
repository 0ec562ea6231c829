"""Deprecated: the projection is a benchmark, `python benchmarks/scaling.py`.

The command `python -m pretraining.scaling` of version 0.1 goes with version 0.3.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    print(f"{__spec__.name} is deprecated. Use python benchmarks/scaling.py.", file=sys.stderr)
    path = Path(__file__).parents[1] / "benchmarks" / "scaling.py"
    runpy.run_path(str(path), run_name="__main__")
