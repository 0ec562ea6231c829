"""A few mutations of every format, with a fixed seed: `make fuzz` reads many."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
# seed, and how many mutations of each format
RUNS = [(0, 40), (1, 10)]


@pytest.mark.parametrize("seed, mutations", RUNS)
def test_no_reader_trips(seed, mutations, tmp_path):
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), "--seed", str(seed)]
    # from 1: number 0 of the HDF5 files is read by a new interpreter, which others test
    command += ["--mutations", str(mutations), "--start", "1", "--keep", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([\d,]+) \| ([\d,]+) ", done.stdout, re.M)
    counts = {name: (int(count), int(opened)) for name, count, opened in rows}
    formats = counts.keys() - {"all"}
    assert len(formats) == 23
    assert all(counts[name][0] == mutations for name in formats)
    assert counts["all"][1] > 0  # some are still good


def test_findings_are_told(tmp_path):
    """A reader that lets a `KeyError` through is found out, and what it tripped over is kept."""
    code = (
        "import fuzz; fuzz.read_case = lambda *_: ('opened', '') if _[1].files == SEED"
        " else ('finding', 'KeyError'); import sys; sys.exit(fuzz.main(sys.argv[1:]))"
    ).replace("SEED", "fuzz.FORMATS['tf-state'].seeds()[0][0]")
    command = [sys.executable, "-c", code, "--only", "tf-state", "--mutations", "9", "--most", "1"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [*command, "--keep", str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert "FINDING tf-state" in done.stdout and "--index" in done.stdout
    assert any(path.name == "checkpoint" for path in tmp_path.rglob("*"))
