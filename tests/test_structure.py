"""What may import what (CONTRIBUTING.md): arrows point one way, and light modules stay light."""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bert4keras_lite"
FRAMEWORKS = {"keras", "tensorflow", "torch", "jax"}
FOR_ALL = {"arguments", "parsing", "types"}
FOR_KERAS = FOR_ALL | {"backend"}  # for all but rooms without a framework
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


DRAWING = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
IMPORTS = DRAWING["imports"]()
ROOMS = DRAWING["ROOMS"] | DRAWING["GROUND"]


def names(text):
    """Returns the rooms that a cell of the table lists, as they come."""
    return [re.sub(r"\.py$|/$", "", name) for name in re.findall(r"`([\w/.]+)`", text)]


def table():
    """Returns room -> `(what it may import, whether without a framework)`, from CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Modules")[2]
    return {
        room: (set(names(others)), "no framework" in contents)
        for files, contents, others in re.findall(
            r"^\| (`.+) \| (.+) \| (.+) \|$", text, re.MULTILINE
        )
        for room in names(files)
    }


TABLE = table()


def test_every_room_is_in_the_table():
    assert TABLE.keys() == IMPORTS.keys() - {"__init__", "__main__", "applications/__init__"}


@pytest.mark.parametrize("room", TABLE)
def test_arrows_point_one_way(room):
    others, light = TABLE[room]
    assert IMPORTS[room] & TABLE.keys() - (FOR_ALL if light else FOR_KERAS) == others - FOR_KERAS
    assert not light or not IMPORTS[room] & FRAMEWORKS
    assert "bert4keras_lite" not in IMPORTS[room]


def test_the_drawing_is_that_of_the_code():
    assert ROOMS.keys() == TABLE.keys() - {"deprecated", "doctor", "serving", "types"}
    for room, other in DRAWING["arrows"](IMPORTS):
        assert ROOMS[room][1] <= ROOMS[other][1], f"{room} is drawn below {other}"
    shown = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert shown == DRAWING["drawing"](), "run python docs/rooms.py"


def test_the_answers_of_the_design_are_in_the_code():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for path, name in re.findall(r"`([\w/]+\.py)`: `([\w.]+)`", design):
        code = (PACKAGE / path).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(def|class) {name.rpartition('.')[2]}\b", code, re.MULTILINE), name


LONGEST = {ast.FunctionDef: 100, ast.AsyncFunctionDef: 100, ast.ClassDef: 400}
LONGER = {"create_app": "lists the routes of the server"}


def test_functions_and_classes_are_short():
    """Lines are counted without docstrings."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if type(node) in LONGEST and node.name not in LONGER:
                inner = [x for x in ast.walk(node) if type(x) in LONGEST and ast.get_docstring(x)]
                docstrings = [x.body[0] for x in inner]
                lines = sum(x.end_lineno - x.lineno + 1 for x in docstrings)
                assert node.end_lineno - node.lineno + 1 - lines <= LONGEST[type(node)], node.name


def test_the_command_alone_imports_the_applications():
    above = {room for room, names in IMPORTS.items() if any("applications" in x for x in names)}
    assert {room for room in above if "applications" not in room} == {"__main__"}


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
    "compat/snippets.py": "makes a `tf.data.Dataset`, if a script asks for one",
}


def test_one_file_knows_what_differs_between_backends():
    asking = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {
            getattr(node.func, "attr", "") for node in ast.walk(tree) if isinstance(node, ast.Call)
        }
        if "backend" in called or DRAWING["imports_of"](path) & (FRAMEWORKS - {"keras"}):
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


def test_what_stands_for_minus_infinity_is_defined_once():
    places, numbers = set(), {str(-1e9), str(-3e4)}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.UnaryOp) and ast.unparse(node) in numbers:
                places.add((path.relative_to(PACKAGE).as_posix(), ast.unparse(node)))
    assert places == {("layers/values.py", number) for number in numbers}


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
NAMELESS = {
    *("bert4keras_lite.__main__", "bert4keras_lite.applications"),
    *("pretraining", "pretraining.scaling"),
}
# modules whose names are imported at their first use, or are those of Keras as well
DEFERRED = {
    "bert4keras_lite",
    "bert4keras_lite.applications.serving",
    "bert4keras_lite.compat.layers",
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
        for name, path in getattr(imported, "_PATHS", {}).items():
            home, _, new_name = path.rpartition(".")
            assert name == new_name in public_names(f"bert4keras_lite.{home}")


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


def test_promised_names_are_shown():
    """In a document besides the list, or in an example."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*")]
    shown = {
        word
        for path in files
        if path.suffix in (".md", ".py") and path.name not in ("public-names.md", "CHANGELOG.md")
        for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))
    }
    assert set().union(*promised_names().values()) - shown == set()


def test_figures_of_the_families():
    """`docs/figures.py` counts every family that the table in docs/adding-a-family.md has."""
    text = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
    labels = re.findall(r"(?m)^\| ([^|]+) \| \d+ \| \d+ \| \d+ \|", text)
    figures = runpy.run_path(str(ROOT / "docs" / "figures.py"))["family_figures"]()
    assert labels == list(figures)
    assert all(sum(pair) for pair in figures.values())


def test_figures_of_the_design():
    """`docs/figures.py` prints what the table in docs/design.md has, but for the public names."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## Figures")[2]
    text = text.partition("### Speed")[0]
    labels = set(re.findall(r"^\| ([a-z].*?) \| .* \| .* \|$", text, re.MULTILINE))
    figures = runpy.run_path(str(ROOT / "docs" / "figures.py"))["figures"]()
    assert labels - {"public names"} == figures.keys()
    assert all(re.search(r"\d", value) for value in figures.values())


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
        if module.endswith(".beam") and not importlib.util.find_spec("apache_beam"):
            continue
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
