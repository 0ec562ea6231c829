"""What may import what (CONTRIBUTING.md): arrows point one way, and light modules stay light."""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bert4keras_lite"
FRAMEWORKS = {"keras", "tensorflow", "torch", "jax"}
FOR_ALL = {"arguments", "parsing", "types"}  # of these, the first imports the second
FOR_KERAS = FOR_ALL | {"backend"}  # for all but packages without a framework
MAY_IMPORT = {
    "models": {"checkpoints", "configs", "hub", "layers", "mappings", "weights_io"},
    "weights_io": {
        *("checkpoints", "configs", "files", "lora", "mappings", "shapes", "tokenizers"),
    },
    "losses": {"layers"},
    "metrics": {"tokenizers"},
    "doctor": {"deprecated"},
    "serving": {"deprecated"},
    "applications/doctor": {"checkpoints", "configs", "data", "models", "tokenizers"},
    "lora": {"patterns"},
    "loading": {
        *("checkpoints", "claims", "configs", "files", "layers", "losses", "models"),
        *("optimizers", "training"),
    },
    "applications/cli": {
        *("checkpoints", "configs", "doctor", "files", "generation", "hub", "loading"),
        *("mappings", "models", "pipelines", "serving", "shapes", "tokenizers"),
    },
    "__main__": {"applications"},
}
# packages without a framework: what each of them may import, besides its own modules
LIGHT = {
    "checkpoints": {"checksums", "files", "protobuf"},
    "tokenizers": {"files", "hub", "protobuf"},
    "configs": {"checkpoints", "files", "mappings"},
}
# other packages: the same
PACKAGES = {
    "layers": set(),
    "training": {"files"},
    "generation": {"data", "files", "layers", "loading"},
    "pipelines": {
        *("data", "files", "generation", "hub", "layers", "loading", "metrics", "tokenizers"),
    },
    "applications/serving": {
        *("checkpoints", "generation", "hub", "models", "pipelines", "tokenizers"),
    },
}
WITHOUT_KERAS = [
    "tokenizers",
    "checkpoints",
    "files",
    "parsing",
    "patterns",
    "protobuf",
    "checksums",
    "mappings",
    "configs",
    "hub",
    "applications.cli",
    "metrics",
    "shapes",
    "spans",
]


def imports(path):
    """Names of our own modules, and of others, that a file imports anywhere when it runs."""
    own, other = set(), set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        node
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
    ]
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = (node.module or "").split(".")
            own |= {parts[0]} if parts[0] else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            other.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            other |= {alias.name.split(".")[0] for alias in node.names}
    return own, other


def name_of(path):
    return str(path.relative_to(PACKAGE).with_suffix(""))


@pytest.mark.parametrize(
    "path", sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("applications/*.py")]), ids=name_of
)
def test_arrows_point_one_way(path):
    own, other = imports(path)
    assert own <= MAY_IMPORT.get(name_of(path), set()) | (FOR_KERAS - {path.stem})
    assert "bert4keras_lite" not in other


@pytest.mark.parametrize(
    "path",
    [path for name in (*LIGHT, *PACKAGES) for path in sorted(PACKAGE.glob(f"{name}/*.py"))],
    ids=name_of,
)
def test_packages_know_what_they_need(path):
    own, other = imports(path)
    folder = name_of(path.parent)
    shared = FOR_ALL if folder in LIGHT else FOR_KERAS
    assert own <= {p.stem for p in path.parent.glob("*.py")} | (LIGHT | PACKAGES)[folder] | shared
    assert folder not in LIGHT or not other & FRAMEWORKS


def test_the_command_alone_imports_the_applications():
    known = {name_of(path) for path in PACKAGE.rglob("*.py") if "applications" in imports(path)[0]}
    assert known == {"__main__"}


@pytest.mark.parametrize("module", WITHOUT_KERAS)
def test_light_modules_load_no_framework(module):
    code = f"import sys, bert4keras_lite.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not FRAMEWORKS & {name.split(".")[0] for name in done.stdout.split()}


# files other than `backend.py` that may ask for the backend, and why
ASK_FOR_BACKEND = {
    "generation/onnx.py": "the exporter exists on PyTorch alone, which an error says",
    "optimizers/keras_private.py": "Keras has other private methods on each backend",
    "applications/serving/app.py": "tells clients its name",
}


def test_one_file_knows_what_differs_between_backends():
    asking = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {
            getattr(node.func, "attr", "") for node in ast.walk(tree) if isinstance(node, ast.Call)
        }
        if "backend" in called or imports(path)[1] & (FRAMEWORKS - {"keras"}):
            asking.add(path.relative_to(PACKAGE).as_posix())
    assert asking == {"backend.py", *ASK_FOR_BACKEND}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("pretraining/*.py")), ids=lambda path: f"pretraining/{path.stem}"
)
def test_pretraining_takes_no_private_names(path):
    """Neither of the package nor, by import, of a module of its own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or "bert4keras_lite" in node.module):
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


def test_pretraining_is_installed_with_its_recipes():
    (setup,) = (
        {keyword.arg: keyword.value for keyword in node.value.keywords}
        for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    assert "pretraining" in ast.literal_eval(setup["packages"].keywords[0].value)
    (pattern,) = ast.literal_eval(setup["package_data"])["pretraining"]
    files = {
        path for path in (ROOT / "pretraining").rglob("*") if path.suffix not in (".py", ".pyc")
    }
    files = {path for path in files if path.is_file()} - {ROOT / "pretraining/README.md"}
    assert files == {*(ROOT / "pretraining").glob(pattern)}


FILES = [
    path for folder in (PACKAGE, ROOT / "pretraining") for path in sorted(folder.rglob("*.py"))
]
# module -> its file
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}
NAMELESS = {"bert4keras_lite.__main__", "bert4keras_lite.applications", "pretraining"}
# modules whose names are imported at their first use
DEFERRED = {
    "bert4keras_lite",
    "bert4keras_lite.applications.serving",
    "bert4keras_lite.doctor",
    "bert4keras_lite.serving",
}


@functools.cache
def public_names(module):
    """The names in `__all__` of a module, from its file: some need packages of one backend."""
    if module in DEFERRED:
        return set(importlib.import_module(module).__all__)
    (value,) = (
        node.value
        for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__"
    )
    return set(ast.literal_eval(value))


@pytest.mark.parametrize("module", sorted(MODULES.keys() - NAMELESS))
def test_every_module_lists_its_names(module):
    """Ruff checks that the names exist, but where they are imported at their first use."""
    names = public_names(module)
    assert names and not any(name.startswith("_") for name in names)
    if module in DEFERRED:
        imported = importlib.import_module(module)
        for name, home in getattr(imported, "_HOME", {}).items():
            assert name in public_names(f"{module}.{home}")
        for name, home in getattr(imported, "_HOMES", {}).items():
            assert name in public_names(f"bert4keras_lite.{home}")


def test_types_of_names_that_are_imported_at_their_first_use():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {alias.name: node.module.split(".")[0] for node in block.body for alias in node.names}
    assert homes == importlib.import_module("bert4keras_lite")._HOME


def imported_names(path):
    """`(module, name)` of what a file takes from our modules: imported, or as `module.name`."""
    package = [] if path.parent == ROOT else list(path.relative_to(ROOT).parts[:-1])
    modules = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                if f"{source}.{alias.name}" in MODULES:
                    modules[alias.asname or alias.name] = f"{source}.{alias.name}"
                elif source in MODULES:
                    yield source, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module and f"{module}.{node.attr}" not in MODULES:
                yield module, node.attr


@pytest.mark.parametrize("folder", ["bert4keras_lite", "pretraining", "examples", "benchmarks"])
def test_only_listed_names_are_imported(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        for module, name in imported_names(path):
            assert name in public_names(module), f"{path}: {module}.{name}"


def promised_names():
    """docs/public-names.md: module -> its public names."""
    text = (ROOT / "docs" / "public-names.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", text, re.MULTILINE)
    promised = {
        f"bert4keras_lite{module}" if module[0] == "." else module: set(re.findall(r"`(\w+)`", row))
        for module, row in rows
    }
    assert f"These {sum(map(len, promised.values()))} names" in text
    return promised


def test_promised_names():
    """Of a package, all names; of a module, those that users need."""
    promised = promised_names()
    for module, names in promised.items():
        assert names <= public_names(module)
        if MODULES[module].name == "__init__.py":
            assert public_names(module) <= names | promised["bert4keras_lite"]


def functions_of(value):
    """A function; or the constructor and the public methods of a class, inherited ones as well."""
    if inspect.isfunction(value):
        yield value
    for cls in value.__mro__ if inspect.isclass(value) else ():
        for name, member in vars(cls).items() if cls.__module__.startswith("bert4keras") else ():
            member = getattr(member, "fget", getattr(member, "func", member))
            member = getattr(member, "__func__", member)
            if inspect.isfunction(member) and (name[0] != "_" or name == "__init__"):
                yield member


def test_public_functions_have_types():
    """mypy, in `make check`, compares them with the code."""
    for module, names in promised_names().items():
        for name in names:
            for function in functions_of(getattr(importlib.import_module(module), name)):
                signature = inspect.signature(function)
                types = [x.annotation for x in signature.parameters.values() if x.name != "self"]
                if list(signature.parameters)[:1] == ["cls"]:
                    types = types[1:]
                known = inspect.Parameter.empty not in [*types, signature.return_annotation]
                assert known, function.__qualname__


def test_numbers_of_command_lines_have_a_range():
    """`type=int` takes any number, and repeats all of what is none: `arguments.within` does not."""
    bare = [
        f"{path.name}, line {node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword)
        and node.arg == "type"
        and isinstance(node.value, ast.Name)
        and node.value.id in ("int", "float")
    ]
    assert bare == []
