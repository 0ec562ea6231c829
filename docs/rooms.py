"""Draws the rooms of the package and their imports: `python docs/rooms.py` writes `rooms.svg`.

Arrows and colors are read from the code. An arrow that follows from others is left out, as are
those to the ground, which every room may use.
"""

import ast
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "bert4keras_lite"
# room -> its column and row, and what it does
ROOMS = {
    "applications/cli": (2, 0, "command line"),
    "applications/beam": (4, 1, "Apache Beam handlers"),
    "applications/doctor": (1, 1, "finds wrong checkpoints"),
    "applications/migrate": (0, 1, "changes old scripts"),
    "compat": (5, 2, "bert4keras' own names"),
    "applications/serving": (3, 1, "HTTP server, web page"),
    "pipelines": (3, 2, "from texts to answers"),
    "metrics": (0, 3, "F1, BLEU, ROUGE"),
    "data": (1, 3, "reading, padding, batches"),
    "generation": (3, 3, "cached decoding, search"),
    "loading": (3, 4, ".keras files"),
    "claims": (5, 4, "checks of .keras files"),
    "models": (2, 5, "the graph, and building it"),
    "losses": (3, 5, "of tokens, labels, vectors"),
    "training": (4, 5, "methods, callbacks"),
    "optimizers": (5, 5, "one feature a file"),
    "weights_io": (1, 6, "weights in and out"),
    "layers": (3, 6, "attention, norms, CRF, ..."),
    "tokenizers": (0, 7, "from texts to ids"),
    "configs": (1, 7, "families, config files"),
    "shapes": (2, 7, "of variables, by config"),
    "lora": (3, 7, "low-rank adapters"),
    "hub": (0, 8, "models by name"),
    "mappings": (1, 8, "weight names, as data"),
    "checkpoints": (2, 8, "files of all formats"),
    "patterns": (4, 8, "regexes within limits"),
    "spans": (5, 8, "of characters and tokens"),
}
GROUND_ROW = 9.4
GROUND = {
    "backend": (0, GROUND_ROW, "TensorFlow, JAX, PyTorch"),
    "arguments": (1, GROUND_ROW, "checks of arguments"),
    "parsing": (2, GROUND_ROW, "JSON and text, untrusted"),
    "files": (3, GROUND_ROW, "saves, whole or not at all"),
    "protobuf": (4, GROUND_ROW, "protocol buffers"),
    "checksums": (5, GROUND_ROW, "CRC-32C"),
}
COLORS = {"an application": "#fbe3c5", "needs Keras": "#d9ead3", "needs no framework": "#dbe7f6"}
COLUMN, ROW, WIDTH, HEIGHT, MARGIN = 174, 69, 154, 43, 16
SIZE = 5 * COLUMN + WIDTH + 2 * MARGIN, round(GROUND_ROW * ROW) + HEIGHT + 2 * MARGIN


def room_of(parts):
    """Returns the room of a module, by the parts of its path in the package."""
    return "/".join(parts[:2] if parts[0] == "applications" else parts[:1])


def imports_of(path):
    """Returns the rooms, and the top-level packages of others, that a module imports anywhere."""
    parts, names = path.relative_to(PACKAGE).with_suffix("").parts, set()
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
            package = parts[: len(parts) - node.level]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            names |= {room_of([*package, *module.split(".")]) for module in modules}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
    return names


def imports():
    """Returns room -> what its modules import, see `imports_of`."""
    edges = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
        edges[room] = edges.get(room, set()) | imports_of(path) - {room}
    return edges


def reached(edges, room):
    """Returns all that a room imports, directly or through others."""
    return set().union(*({other} | reached(edges, other) for other in edges.get(room, ())))


def arrows(edges):
    """Returns the pairs of rooms with an arrow: the imports that do not follow from others."""
    return [
        (room, other)
        for room in ROOMS
        for other in sorted(edges[room] & ROOMS.keys())
        if not any(other in reached(edges, third) for third in edges[room] - {other})
    ]


def corner(room):
    """Returns the left upper corner of a room's box."""
    column, row, _ = (ROOMS | GROUND)[room]
    return MARGIN + column * COLUMN, MARGIN + round(row * ROW)


def draw_arrow(room, other):
    (x1, y1), (x2, y2) = corner(room), corner(other)
    if y1 == y2:
        start, end = (x1 + WIDTH, x2) if x2 > x1 else (x1, x2 + WIDTH)
        points = f"M{start} {y1 + HEIGHT // 2} H{end}"
    else:
        side = (x2 > x1) - (x2 < x1)
        start, end = x1 + WIDTH // 2 + side * 40, x2 + WIDTH // 2 - side * 40
        points = f"M{start} {y1 + HEIGHT} L{end} {y2}"
    return f'<path d="{points}" marker-end="url(#tip)"/>'


def draw_box(room, color):
    x, y = corner(room)
    middle, name = x + WIDTH // 2, room.rpartition("/")[2]
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{color}"/>'
        f'<text x="{middle}" y="{y + 18}" class="name">{name}</text>'
        f'<text x="{middle}" y="{y + 34}">{(ROOMS | GROUND)[room][2]}</text>'
    )


def drawing():
    """Returns the drawing as SVG."""
    edges = imports()

    def color(room):
        uses_keras = "keras" in reached(edges, room)
        is_application = room.startswith("applications")
        return list(COLORS.values())[0 if is_application else 1 if uses_keras else 2]

    legend = MARGIN + 4 * COLUMN
    ground = MARGIN + round(GROUND_ROW * ROW) - 12
    width, height = SIZE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="11"',
        ' font-family="Helvetica, Arial, DejaVu Sans, sans-serif" text-anchor="middle">',
        "<style>.name { font-size: 14px; font-weight: bold } .left { text-anchor: start }</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#666"/></marker>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<rect x="4" y="{ground - 12}" width="{width - 8}" height="{HEIGHT + 36}"'
        ' fill="#eeeeee"/>'
        f'<text x="{MARGIN}" y="{ground + 4}" class="left">'
        "the ground, used by many rooms (no arrows)</text>",
        '<g stroke="#666" fill="none">',
        *(draw_arrow(*pair) for pair in arrows(edges)),
        "</g>",
        *(draw_box(room, color(room)) for room in ROOMS | GROUND),
    ]
    for i, (text, fill) in enumerate(COLORS.items()):
        y = MARGIN + 22 * i
        lines += [
            f'<rect x="{legend}" y="{y}" width="24" height="14" rx="3" fill="{fill}"/>',
            f'<text x="{legend + 32}" y="{y + 11}" class="left">{text}</text>',
        ]
    users = "users: pretraining, examples, benchmarks"
    lines += [f'<text x="{legend}" y="{MARGIN + 82}" class="left">{users}</text>', "</svg>", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (DOCS / "rooms.svg").write_text(drawing(), encoding="utf-8")
