"""Makes `moving.json`: every public name of bert4keras 0.11.5, which docs/moving-from-bert4keras.md
has to cover.

Run it where bert4keras 0.11.5 is, with TensorFlow and TF_USE_LEGACY_KERAS=1 TF_KERAS=1.

- A name belongs to the module that defines it; `backend` hands on `keras`, `K` and `tf` besides,
  which every script takes from there.
- A class lists the public methods and properties that no class below it has already, Keras' own
  among them; so a layer's `build` and `call` are not listed.
- `options` are those of `build_transformer_model`: its own, and what the models take; `values` are
  the names it knows for `model`.
"""

import ast
import inspect
import json
from importlib import import_module
from pathlib import Path

MODULES = "models", "layers", "optimizers", "tokenizers", "snippets", "backend"
HANDED_ON = {"backend": {"keras", "K", "tf"}, "snippets": {"uniout"}}  # uniout: made when asked for


def bound(body):
    """The names that statements bind, but for imports and what is private."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.If):
            yield from bound(node.body)
            yield from bound(node.orelse)


def methods(cls):
    """What a class of bert4keras has that no class below it has; of anything else, nothing."""
    if not inspect.isclass(cls) or not cls.__module__.startswith("bert4keras."):
        return []
    below = {name for base in cls.__mro__[1:] for name in vars(base)}
    own = {name for name in vars(cls) if not name.startswith("_")} - below
    return sorted(name for name in own if callable(getattr(cls, name)) or is_property(cls, name))


def is_property(cls, name):
    return isinstance(inspect.getattr_static(cls, name), property)


def option_names(tree):
    """Arguments of `build_transformer_model`, and of the constructors and `build` of the models."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    functions = [node for node in functions if node.name == "build_transformer_model"]
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        functions += [
            node
            for node in cls.body
            if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "build")
        ]
    for function in functions:
        yield from (argument.arg for argument in function.args.args)
        for decorator in function.decorator_list:  # @insert_arguments(with_pool=False, ...)
            yield from (keyword.arg for keyword in getattr(decorator, "keywords", ()))


def model_names(tree):
    """The keys of the table of models in `build_transformer_model`."""
    (function,) = [n for n in tree.body if getattr(n, "name", None) == "build_transformer_model"]
    tables = [n for n in ast.walk(function) if isinstance(n, ast.Dict) and len(n.keys) > 10]
    return [key.value for table in tables for key in table.keys]


def public_names():
    found = {}
    for name in MODULES:
        module = import_module(f"bert4keras.{name}")
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names = {n for n in bound(tree.body) if not n.startswith("_") and hasattr(module, n)}
        found[name] = {
            n: methods(getattr(module, n)) for n in sorted(names | HANDED_ON.get(name, set()))
        }
        if name == "models":
            found["options"] = {n: [] for n in set(option_names(tree)) - {"self"}}
            found["values"] = {n: [] for n in model_names(tree)}
    return found


if __name__ == "__main__":
    path = Path(__file__).with_name("moving.json")
    path.write_text(json.dumps(public_names(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
