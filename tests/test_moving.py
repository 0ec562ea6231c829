"""docs/moving-from-bert4keras.md has every old name, and its new names exist."""

import builtins
import inspect
import json
import re
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from bert4keras_lite import build_transformer_model, mappings
from bert4keras_lite.configs import ARCHITECTURES, Config
from bert4keras_lite.models import LOADING_OPTIONS, Transformer

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
DOC = (ROOT / "docs" / "moving-from-bert4keras.md").read_text(encoding="utf-8")
OLD = json.loads((ROOT / "tests" / "goldens" / "moving.json").read_text(encoding="utf-8"))
TITLES = {"options of build_transformer_model": "options", "values of model": "values"}
OPTIONS = (
    {field.name for field in fields(Config)}
    | inspect.signature(Transformer).parameters.keys()
    | inspect.signature(build_transformer_model).parameters.keys()
    | LOADING_OPTIONS
    | mappings.CONFIG_KEYS.keys()
) - {"config"}


def tables():
    """(section, [(old names, what the second column says)]) of each table."""
    for section in DOC.split("\n### ")[1:]:
        title, *lines = section.split("\n")
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
        assert all(len(row) == 3 for row in rows), title
        yield TITLES.get(title, title), [(in_code(row[0]), row[1].strip()) for row in rows]


def in_code(text):
    return re.findall("`([^`]+)`", text)


TABLES = dict(tables())
NEW = [
    (section, name)
    for section, rows in TABLES.items()
    for _, here in rows
    if not here.startswith(("not needed", "missing"))
    for name in in_code(here)
]


def resolve(name):
    """What a dotted name means: of this package, of a module, or of Python itself."""
    for home in (f"bert4keras_lite.{name}", name, f"builtins.{name}"):
        parts = home.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = import_module(".".join(parts[:cut]))
                for part in parts[cut:]:
                    found = getattr(found, part)
                return found
            except (ImportError, AttributeError):
                continue
    raise LookupError(name)


@pytest.mark.parametrize("section", OLD)
def test_every_old_name_is_there_once(section):
    old = {name for cls, methods in OLD[section].items()
           for name in (cls, *(f"{cls}.{method}" for method in methods))}  # fmt: skip
    listed = [name for names, _ in TABLES[section] for name in names]
    assert sorted(listed) == sorted(old)


def test_every_row_has_a_new_name_or_says_why_not():
    for rows in TABLES.values():
        for old, here in rows:
            assert in_code(here) or re.match("(not needed: because|missing:) .{10}", here), old


@pytest.mark.parametrize(("section", "name"), NEW, ids=lambda value: value)
def test_every_new_name_exists(section, name):
    if section == "options":
        assert name in OPTIONS
    elif section == "values":
        assert name in ARCHITECTURES
    elif name.startswith("tensorflow.") and not find_spec("tensorflow"):
        pytest.skip("TensorFlow is not here")
    else:
        resolve(name)


def test_names_that_are_none_are_told():
    for name in ("layers.GlobalPoint", "Tokenizer.encoded", "keras.ops.batch_gather", "nothing.of"):
        with pytest.raises(LookupError):
            resolve(name)
    assert resolve("layers.GlobalPointer").__module__ == "bert4keras_lite.layers.pointers"
    assert resolve("open") is builtins.open
