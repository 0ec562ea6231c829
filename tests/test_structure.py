"""What may import what (CONTRIBUTING.md): arrows point one way, and light modules stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bert4keras_lite"
FRAMEWORKS = {"keras", "tensorflow", "torch", "jax"}
FOR_ALL = {"arguments", "parsing"}  # of these, the first imports the second
MAY_IMPORT = {
    "configs": {"checkpoints", "files", "mappings"},
    "models": {
        *("checkpoints", "configs", "files", "hub", "layers", "lora", "mappings"),
        *("shapes", "tokenizers"),
    },
    "losses": {"layers"},
    "metrics": {"tokenizers"},
    "doctor": {"checkpoints", "data", "models", "tokenizers"},
    "lora": {"patterns"},
    "loading": {
        *("checkpoints", "claims", "configs", "files", "layers", "losses", "models"),
        *("optimizers", "training"),
    },
    "cli": {
        *("checkpoints", "configs", "data", "doctor", "files", "generation", "hub"),
        *("loading", "mappings", "models", "serving", "shapes", "tokenizers"),
    },
    "__main__": {"cli"},
}
WITHOUT_KERAS = [
    "tokenizers",
    "checkpoints",
    "files",
    "parsing",
    "patterns",
    "mappings",
    "configs",
    "hub",
    "cli",
    "metrics",
    "shapes",
]


def imports(path):
    """Names of our own modules, and of others, that a file imports anywhere in it."""
    own, other = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = (node.module or "").split(".")
            own |= {parts[0]} if parts[0] else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            other.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            other |= {alias.name.split(".")[0] for alias in node.names}
    return own, other


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_arrows_point_one_way(path):
    own, other = imports(path)
    assert own <= MAY_IMPORT.get(path.stem, set()) | (FOR_ALL - {path.stem})
    assert "bert4keras_lite" not in other


@pytest.mark.parametrize(
    "path",
    sorted(path for name in ("checkpoints", "tokenizers") for path in PACKAGE.glob(f"{name}/*.py")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_light_packages_know_no_framework(path):
    own, other = imports(path)
    assert not other & FRAMEWORKS
    assert own <= {p.stem for p in path.parent.glob("*.py")} | {"files", "hub"} | FOR_ALL


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("generation/*.py")), ids=lambda p: p.stem)
def test_generation_takes_models_as_they_come(path):
    own, _ = imports(path)
    known = {"data", "files", "layers", "loading"}
    assert own <= {p.stem for p in path.parent.glob("*.py")} | known | FOR_ALL


@pytest.mark.parametrize(
    "path",
    [
        path
        for package in ("layers", "training")
        for path in sorted(PACKAGE.glob(f"{package}/*.py"))
    ],
    ids=lambda path: f"{path.parent.stem}-{path.stem}",
)
def test_layers_and_methods_know_only_each_other(path):
    own, _ = imports(path)
    assert own <= {p.stem for p in path.parent.glob("*.py")} | FOR_ALL


@pytest.mark.parametrize("module", WITHOUT_KERAS)
def test_light_modules_load_no_framework(module):
    code = f"import sys, bert4keras_lite.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not FRAMEWORKS & {name.split(".")[0] for name in done.stdout.split()}


PROGRAMS = [
    path for folder in (PACKAGE, ROOT / "pretraining") for path in sorted(folder.rglob("*.py"))
]


def test_numbers_of_command_lines_have_a_range():
    """`type=int` takes any number, and repeats all of what is none: `arguments.within` does not."""
    bare = [
        f"{path.name}, line {node.lineno}"
        for path in PROGRAMS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword)
        and node.arg == "type"
        and isinstance(node.value, ast.Name)
        and node.value.id in ("int", "float")
    ]
    assert bare == []
