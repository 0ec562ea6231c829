"""Published checkpoints that `docs/checkpoints.md` names: family and sizes, by config and names.

The files here have the names and shapes that transformers' classes have for the published configs
(`goldens/published.json`). They have no numbers: a hole in the file takes their place.
"""

import itertools
import json
import re

import pytest
from goldens.recipes import FOLDER

from bert4keras_lite.applications.cli import main

pytestmark = pytest.mark.once

ROWS = json.loads((FOLDER / "published.json").read_text("utf-8"))
# where it is not the name of the family
FAMILIES = {"roberta": "fairseq_roberta", "new": "gte"}
# parameters in millions that the name says: the last digit is rounded
COUNT = re.compile(r"(\d+)M|(\d+\.\d)B")


def write(folder, row):
    """Writes the config and a file without numbers."""
    (folder / "config.json").write_text(json.dumps(row["config"]), "utf-8")
    header, end = {}, 0
    for name, (shape, *blocks) in row["arrays"].items():
        first, last = blocks or (0, 0)
        for i in range(first, last + 1):
            start, end = end, end + 4 * size_of(shape)
            header[name.format(i=i)] = {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": [start, end],
            }
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def size_of(shape):
    size = 1
    for length in shape:
        size *= length
    return size


@pytest.mark.parametrize("name", ROWS)
def test_inspect_knows(name, tmp_path, capsys):
    row = ROWS[name]
    write(tmp_path, row)
    assert main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    model_type = row["config"]["model_type"].replace("-", "_")
    family = "ernie" if name == "linyi/ern3" else FAMILIES.get(model_type, model_type)
    assert re.search(rf"^family +{family}\b", shown, re.MULTILINE), shown
    assert "missing: " not in shown and "not known: " not in shown
    if told := COUNT.search(name):
        millions = int(re.search(r"^parameters +([\d,]+)", shown, re.MULTILINE)[1].replace(",", ""))
        billions = told[2] and float(told[2]) * 1000
        assert millions / 1e6 == pytest.approx(billions or int(told[1]), rel=0.05)


def expanded(name):
    """The names that a name with alternatives in braces stands for."""
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    return {"".join(parts) for parts in itertools.product(*parts)}


def test_documents_name_them():
    text = (FOLDER.parents[1] / "docs/checkpoints.md").read_text("utf-8")
    named = {name for code in re.findall(r"`([^`\n]+)`", text) for name in expanded(code)}
    assert not ROWS.keys() - named
