"""Directories that we write, in the hands of transformers: it loads them whole, numbers included.

`make test` installs no transformers: it tests that what we write is what transformers loaded when
`goldens/written.json` was made.
"""

import json
from importlib.util import find_spec

import pytest
from goldens.make_written import CASES, GOLDEN, check, facts, write

FROZEN = json.loads(GOLDEN.read_text("utf-8"))


def test_every_case_is_frozen():
    assert list(FROZEN) == list(CASES)


@pytest.mark.once
@pytest.mark.parametrize("case", CASES)
def test_we_write_what_transformers_loaded(case, tmp_path):
    write(case, tmp_path)
    assert facts(tmp_path) == FROZEN[case]


@pytest.mark.long
@pytest.mark.once
@pytest.mark.parametrize("case", CASES)
def test_transformers_reads_what_we_write(case, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if case == "cpt" and not find_spec("modeling_cpt"):
        pytest.skip("needs the authors' code: see goldens/cpt_reference.py")
    check(case, tmp_path)
