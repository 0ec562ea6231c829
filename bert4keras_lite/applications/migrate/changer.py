"""Changes the syntax tree of a script; needs libcst."""

import libcst as cst
from libcst.helpers import get_full_name_for_node as full_name
from libcst.metadata import PositionProvider

from ...compat.names import GONE, GONE_IN_KERAS, GONE_IN_TENSORFLOW, NO_COUNTERPART

__all__ = ["Changer"]

COMPAT = "bert4keras_lite.compat"
# modules of Keras 2 -> modules here; others stay
KERAS = {
    "keras": f"{COMPAT}.backend",
    "keras.backend": f"{COMPAT}.backend",
    "keras.layers": f"{COMPAT}.layers",
    "keras.models": f"{COMPAT}.models",
    "keras.engine.topology": f"{COMPAT}.layers",
    "keras.engine": f"{COMPAT}.layers",
    "keras.utils.np_utils": "keras.utils",
    "keras.preprocessing.sequence": "keras.utils",
}
OPTIMIZERS = ("Adam", "SGD", "RMSprop", "Lion", "AdaFactor", "Adagrad", "Adadelta", "Nadam")


class Changer(cst.CSTTransformer):
    """Changes imports, and notes what has no counterpart, as `(line, text)`, in `remarks`."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self):
        super().__init__()
        self.remarks: list[tuple[int, str]] = []
        self.needs_keras = False

    def remark(self, node, text):
        line = self.get_metadata(PositionProvider, node).start.line
        self.remarks.append((line, text))

    def leave_ImportFrom(self, original_node, updated_node):
        if updated_node.module is None or updated_node.relative:
            return updated_node
        old = full_name(updated_node.module)
        new = new_module(old)
        if old in ("keras", "tensorflow.keras"):
            updated_node = self.with_k(updated_node)
        names = updated_node.names if isinstance(updated_node.names, tuple | list) else ()
        for alias in names:
            self.check(original_node, old, alias.name.value)
        return updated_node.with_changes(module=dotted(new)) if new != old else updated_node

    def with_k(self, node):
        """Imports `K` where `backend` was imported."""
        if not isinstance(node.names, tuple | list):
            return node
        names = []
        for alias in node.names:
            if alias.name.value == "backend":
                called = alias.asname and alias.asname.name.value
                asname = None if called == "K" else alias.asname
                name = cst.AsName(cst.Name("backend")) if called is None else asname
                alias = alias.with_changes(name=cst.Name("K"), asname=name)
            names.append(alias)
        return node.with_changes(names=names)

    def check(self, node, module, name):
        """Notes an imported name that has no counterpart."""
        for known in (f"{module}.{name}", name):
            if known in NO_COUNTERPART and module.startswith("bert4keras"):
                self.remark(node, f"{name}: {NO_COUNTERPART[known]}")
                return
        if module.replace("tensorflow.", "").startswith("keras") and name in GONE_IN_KERAS:
            self.remark(node, f"{name}: {GONE_IN_KERAS[name]}")

    def leave_Import(self, original_node, updated_node):
        statements = []
        for alias in updated_node.names:
            old = full_name(alias.name)
            if old.startswith("bert4keras"):
                new = old.replace("bert4keras", COMPAT, 1)
            elif old.replace("tensorflow.", "") in ("keras", "keras.backend"):
                return self.from_backend(updated_node, old, alias)
            else:
                new = old
            statements.append(alias.with_changes(name=dotted(new)) if new != old else alias)
        return updated_node.with_changes(names=statements)

    def from_backend(self, node, old, alias):
        """Returns `from ...backend import keras` (or `K`) for an import of Keras."""
        name = "K" if old.endswith("backend") else "keras"
        if len(node.names) > 1:
            self.remark(node, "import keras: give it a line of its own, and migrate again.")
            return node
        called = alias.asname and alias.asname.name.value
        alias = cst.ImportAlias(cst.Name(name), asname=None if called == name else alias.asname)
        return cst.ImportFrom(dotted(KERAS["keras"]), [alias])

    def leave_Attribute(self, original_node, updated_node):
        name = full_name(updated_node) or ""
        root, _, rest = name.partition(".")
        if root == "K" and rest in GONE:
            self.remark(original_node, f"K.{rest}: {GONE[rest]}")
        if name in GONE_IN_TENSORFLOW:
            self.remark(original_node, f"{name}: {GONE_IN_TENSORFLOW[name]}")
        if rest in NO_COUNTERPART:
            self.remark(original_node, f"{rest}: {NO_COUNTERPART[rest]}")
        last = updated_node.attr.value
        if last in ("_make_train_function", "train_function"):
            self.remark(original_node, f"{last}: {NO_COUNTERPART['train_function']}")
        if name in ("tf.keras", "tensorflow.keras"):
            self.needs_keras = True
            return cst.Name("keras")
        return updated_node

    def leave_Call(self, original_node, updated_node):
        name = (full_name(updated_node.func) or "").rpartition(".")[2]
        if not name.startswith(OPTIMIZERS):
            return updated_node
        arguments = [
            argument.with_changes(keyword=cst.Name("learning_rate"))
            if argument.keyword is not None and argument.keyword.value == "lr"
            else argument
            for argument in updated_node.args
        ]
        return updated_node.with_changes(args=arguments)

    def leave_Module(self, original_node, updated_node):
        """Imports `keras` if `tf.keras` was changed to it."""
        if not self.needs_keras or "backend import keras" in updated_node.code:
            return updated_node
        line = cst.parse_statement(f"from {KERAS['keras']} import keras\n")
        body = list(updated_node.body)
        place = next(
            (
                i
                for i, statement in enumerate(body)
                if isinstance(statement, cst.SimpleStatementLine)
                and isinstance(statement.body[0], cst.Import | cst.ImportFrom)
                and full_name(getattr(statement.body[0], "module", None) or cst.Name("_"))
                != "__future__"
            ),
            0,
        )
        return updated_node.with_changes(body=[*body[:place], line, *body[place:]])


def dotted(name):
    """Returns the syntax tree of a dotted name."""
    node = None
    for part in name.split("."):
        node = cst.Name(part) if node is None else cst.Attribute(node, cst.Name(part))
    return node


def new_module(old: str) -> str:
    """Returns the module that takes the place of one in an import."""
    if old == "bert4keras" or old.startswith("bert4keras."):
        return old.replace("bert4keras", COMPAT, 1)
    of_keras = old.removeprefix("tensorflow.").removeprefix("python.")
    if of_keras == "keras" or of_keras.startswith("keras."):
        parts = of_keras.split(".")
        for end in range(len(parts), 0, -1):
            known = ".".join(parts[:end])
            if known in KERAS and (end == len(parts) or known in ("keras.layers", "keras.models")):
                return KERAS[known]
        return of_keras
    return old
