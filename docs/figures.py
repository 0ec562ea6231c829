"""Prints the figures of the code that `design.md` shows: `python docs/figures.py`.

First those of the whole code, then the lines of the families of today.

A line of code has a token that is neither a comment nor a docstring; lines of functions and classes
are counted without docstrings.
"""

import ast
import runpy
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bert4keras_lite"
APPLICATIONS = PACKAGE / "applications"
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    tokenize.ENDMARKER,
}
OTHER_FOLDERS = "pretraining", "examples", "benchmarks"
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
# what was written for the families of today and nothing else uses: the families -> the names of
# classes, functions, methods and constants, or part -> names of what several of them share
OWN = {
    "fairseq_roberta, xlm_roberta": ["_ROBERTA", "_ROBERTA_NAMES", "_ROBERTA_HEADS", "Positions"],
    "ernie": [],
    "megatron_bert": [],
    "deberta_v2": [
        "_DEBERTA_NAMES",
        "_DEBERTA_DENSE",
        "DisentangledAttention",
        "DistanceVectors",
        "Convolution",
        "Transformer.after_block",
    ],
    "distilbert": ["_DISTIL", "_OUT", "DISTIL_KEYS", "_DISTILBERT_DENSE"],
    "modernbert": [
        "_MODERNBERT",
        "_MODERNBERT_HEADS",
        "_layer_types",
        "_full_every",
        "WindowBias",
        "Transformer.with_kinds",
    ],
    "eurobert": [],
    "gte": ["_GTE"],
    "llama": ["_LLAMA_HEADS"],
    "mistral": ["_SLIDING"],
    "qwen2": ["_QWEN2"],
    "qwen3": [],
    "glm": ["_GLM", "_GLM_COMPUTED", "PARTLY_ROTARY"],
    "glm4": [],
    "gemma3_text": ["_GEMMA3", "_rope_by_kind", "_KINDS_DIFFER"],
    "bart": ["_BART", "DECODER_IDS", "DECODER_IDS_READ", "Config.of_stack", "forced"],
    "pegasus": ["_PEGASUS", "SinusoidalPositions"],
    "cpt": [
        *("_CPT", "OF_ONE_STACK", "OF_CLASSES", "check_stacks", "FirstInput"),
        *("Config.memory_blocks", "EncoderDecoder.with_last_blocks"),
    ],
}
SHARED = {
    "Llama's graph, names and keys": [
        *("_LLAMA", "_LLAMA_GRAPH", "_LLAMA_BODY", "_LLAMA_COMPUTED", "_HEAD_NORMS", "_HEAD_DIM"),
        *("LLAMA_KEYS", "LLAMA_NAMES", "_llama_family", "_sliding_window", "_LAYER_TYPES"),
        *("BIASES", "BLOCK_PARTS", "_biases", "_translate_biases"),
    ],
    "BART's names and keys": [
        *("_bart", "_bart_norms", "_bart_family", "BART_KEYS", "LEFTOVERS", "_STACK_NAMES"),
    ],
    "rotary positions for long texts": [
        *(f"RotaryAngles.{name}" for name in ("linear", "llama3", "yarn", "dynamic")),
        *("configs/rope.py", "_scale_rope"),
    ],
    "classifiers in the graph": ["Head", "KINDS", "TokenPooling", "Transformer.classifier_outputs"],
    "queries in groups": ["MultiHeadAttention.grouped", "MultiHeadAttention.kv_heads"],
    "configs as they are published": ["configs/classifiers.py", "configs/written.py", "MISSING"],
}


def python_files(folder):
    """Returns the Python files below a folder, in order."""
    return sorted(folder.rglob("*.py"))


def docstring_lines(node):
    """Returns the line numbers of the docstrings in a syntax tree."""
    return {
        line
        for child in ast.walk(node)
        if isinstance(child, ast.Module | ast.ClassDef | FUNCTIONS) and ast.get_docstring(child)
        for line in range(child.body[0].lineno, child.body[0].end_lineno + 1)
    }


def code_lines(path):
    """Returns the number of lines of a file that have code."""
    with tokenize.open(path) as file:
        lines = {
            line
            for token in tokenize.generate_tokens(file.readline)
            if token.type not in NO_CODE
            for line in range(token.start[0], token.end[0] + 1)
        }
    return len(lines - docstring_lines(ast.parse(path.read_text(encoding="utf-8"))))


def definitions():
    """Returns name -> lines of everything that a file of the package defines.

    A row of a table is named by its key, such as `FAMILIES["gte"]`, a file by its path.
    """
    lines = {}

    def add(name, node):
        lines[name] = node.end_lineno - node.lineno + 1 - len(docstring_lines(node))

    for path in python_files(PACKAGE):
        lines[path.relative_to(PACKAGE).as_posix()] = code_lines(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | FUNCTIONS):
                add(node.name, node)
            if isinstance(node, ast.ClassDef):
                for child in filter(lambda child: isinstance(child, FUNCTIONS), node.body):
                    add(f"{node.name}.{child.name}", child)
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    add(ast.unparse(target).replace("'", '"'), node)
                if isinstance(node.value, ast.Dict):
                    for key, value in zip(node.value.keys, node.value.values, strict=True):
                        if key:
                            row = f"{ast.unparse(targets[0])}[{ast.unparse(key)}]"
                            add(row.replace("'", '"'), value)
    return lines


def family_figures():
    """Returns families or shared part -> lines: rows of the tables, then code of their own."""
    lines = definitions()
    figures = {}
    for families, names in OWN.items():
        first, *others = families.split(", ")
        rows = [f'WEIGHTS["{first}"]', *(f'FAMILIES["{name}"]' for name in (first, *others))]
        figures[families] = [*rows, *names]
    return {
        label: (
            sum(lines[name] for name in names if is_table(name)),
            sum(lines[name] for name in names if not is_table(name)),
        )
        for label, names in (figures | SHARED).items()
    }


def is_table(name):
    """Whether a definition is a constant."""
    return name.partition("[")[0].lstrip("_").isupper()


def sizes(kind):
    """Returns `(lines, name)` of each function or class of the package, longest first."""
    return sorted(
        (
            (node.end_lineno - node.lineno + 1 - len(docstring_lines(node)), node.name)
            for path in python_files(PACKAGE)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, kind)
        ),
        reverse=True,
    )


def figures():
    """Returns label -> value, as in `design.md`."""
    rooms = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
    classes, functions = sizes(ast.ClassDef), sizes(FUNCTIONS)
    lines = {path: code_lines(path) for path in python_files(PACKAGE)}
    longest = max(lines, key=lines.get)
    used = sum(n for path, n in lines.items() if APPLICATIONS in path.parents)
    others = [sum(map(code_lines, python_files(ROOT / name))) for name in OTHER_FOLDERS]
    names = [room for room in rooms["ROOMS"] | rooms["GROUND"] if "/" not in room]
    two = [
        "`{}`, {:,}; next `{}`, {:,}".format(
            *(value for n, name in pair[:2] for value in (name, n))
        )
        for pair in (classes, functions)
    ]
    return {
        "rooms, without applications": f"{len(names)}",
        "longest class": two[0],
        "longest function": two[1],
        "functions; lines of each, on average": (
            f"{len(functions):,}; {sum(n for n, _ in functions) / len(functions):.1f}"
        ),
        "longest file": f"`{longest.name}`, {lines[longest]:,}",
        "lines of code, without applications": f"{sum(lines.values()) - used:,}",
        "lines of code, applications": f"{used:,}",
        "; ".join(OTHER_FOLDERS): "; ".join(f"{n:,}" for n in others),
    }


if __name__ == "__main__":
    for label, value in figures().items():
        print(f"| {label} | {value} |")
    print()
    for label, (tables, code) in family_figures().items():
        print(f"| {label} | {tables} | {code} | {tables + code} |")
