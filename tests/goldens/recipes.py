"""Read the golden cases: what was built, with which weights and inputs, and what came out.

Weights are not stored. Each tensor is drawn from its own generator, seeded by its name, so that a
file of names and shapes is all there is to keep. ``RandomState`` is NumPy's frozen generator: its
stream does not change between versions.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
STD = 0.2
# what a normalization multiplies by, as TensorFlow, PyTorch and Mesh-TensorFlow name it
SCALE = re.compile(
    r"(gamma|/scale|/g|norm(_\d|_embedding)?\.weight|(\b|attn_|mlp_)ln(_\w+)?\.weight)$",
    re.IGNORECASE,
)


def random_tensor(name, shape, seed=0):
    """Draw one tensor from N(0, 0.2); the scale of a normalization from N(1, 0.2).

    Args:
        name: of the tensor in its checkpoint; part of the seed.
        shape: list of integers.
        seed: integer that sets whole models apart.

    Returns:
        float32 array.
    """
    generator = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))
    mean = 1.0 if SCALE.search(name) else 0.0
    return (mean + STD * generator.standard_normal(tuple(shape))).astype("float32")


def random_weights(shapes, seed=0):
    """Draw every tensor of a model. Args: ``shapes``: dict of name -> shape; ``seed``: integer."""
    return {name: random_tensor(name, shape, seed) for name, shape in shapes.items()}


def renamed_weights(names, weights):
    """Give TensorFlow-named weights their Hugging Face names and layouts.

    Args:
        names: dict of Hugging Face name -> ``[TensorFlow name, transposed]``.
        weights: dict of TensorFlow name -> array.
    """
    return {
        name: np.ascontiguousarray(weights[there].T) if transposed else weights[there]
        for name, (there, transposed) in names.items()
    }


def named_weights(table, name):
    """The weights called ``name`` in ``table``, the ``"weights"`` entry of ``cases.json``."""
    entry = table[name]
    if "names" in entry:
        return renamed_weights(entry["names"], named_weights(table, entry["renames"]))
    shapes = {**table[entry["extends"]]["shapes"]} if "extends" in entry else {}
    return random_weights({**shapes, **entry["shapes"]}, entry["seed"])


UER_MODULES = {
    "bert.embeddings.word_embeddings": "embedding.word.embedding",
    "bert.embeddings.position_embeddings": "embedding.pos.embedding",
    "bert.embeddings.token_type_embeddings": "embedding.seg.embedding",
    "bert.embeddings.LayerNorm": "embedding.layer_norm",
    "bert.pooler.dense": "target.sp.linear_1",
    "cls.seq_relationship": "target.sp.linear_2",
    "cls.predictions.transform.dense": "target.mlm.linear_1",
    "cls.predictions.transform.LayerNorm": "target.mlm.layer_norm",
    "cls.predictions": "target.mlm.linear_2",
    "attention.self.query": "self_attn.linear_layers.0",
    "attention.self.key": "self_attn.linear_layers.1",
    "attention.self.value": "self_attn.linear_layers.2",
    "attention.output.dense": "self_attn.final_linear",
    "attention.output.LayerNorm": "layer_norm_1",
    "intermediate.dense": "feed_forward.linear_1",
    "output.dense": "feed_forward.linear_2",
    "output.LayerNorm": "layer_norm_2",
}


def uer_name(name, modules=UER_MODULES):
    """The name in UER's files of a tensor of Hugging Face's BERT; layouts are PyTorch's in both."""
    path, kind = name.rsplit(".", 1)
    if "LayerNorm" in path:
        kind = {"weight": "gamma", "bias": "beta"}[kind]
    if block := re.fullmatch(r"bert\.encoder\.layer\.(\d+)\.(.+)", path):
        return f"encoder.transformer.{block[1]}.{modules[block[2]]}.{kind}"
    return f"{modules[path]}.{kind}"


def scores_after(output_ids, examples, vocab_size=7):
    """Random scores of the next token, always the same after the same ids; 2 ends more often.

    Args:
        output_ids: integers ``(rows, length)``; examples: integers ``(rows,)``.

    Returns:
        ``(rows, vocab_size)``.
    """
    scores = []
    for row, example in zip(output_ids, examples, strict=True):
        seed = zlib.crc32(f"{int(example)}/{[int(i) for i in row]}".encode())
        scores.append(np.random.RandomState(seed).standard_normal(vocab_size))
    return np.array(scores) + 0.8 * (np.arange(vocab_size) == 2)


@dataclass(frozen=True)
class Case:
    """One model, its inputs and its outputs.

    Attributes:
        name: of the case.
        source: library and version that computed the outputs.
        config: dict to be written as the model's ``config.json``.
        options: keyword arguments of ``build_transformer_model``, bert4keras' spelling.
        condition_size: width of the ``layer_norm_cond`` input, or None. That input is also the
            ``additional_input_layers``, so its array comes last in ``inputs``.
        checkpoint: folder that holds the model's files, relative to this one, or None.
        weights: dict of name -> array; empty if there is a ``checkpoint``.
        inputs: for each batch, the list of input arrays.
        outputs: for each batch, the list of output arrays.
        hidden_states: for each batch, embeddings and every block's output; empty if not recorded.
        notes: what to know.
        compare: ``"all"`` positions, or only the ``"visible"`` ones: those with a nonzero token.
    """

    name: str
    source: str
    config: dict
    options: dict
    condition_size: int | None
    checkpoint: str | None
    weights: dict
    inputs: list
    outputs: list
    hidden_states: list
    notes: str
    compare: str = "all"


def _options(options):
    """Undo what JSON did to tuples: a weighted compound token is ``([ids], [weights])``."""
    tokens = options.get("compound_tokens")
    if tokens is None:
        return options
    return {
        **options,
        "compound_tokens": [tuple(t) if isinstance(t[0], list) else t for t in tokens],
    }


def load_cases(folder=FOLDER / "bert"):
    """Read all cases of a family.

    Args:
        folder: holds ``cases.json``, ``inputs.npz`` and ``outputs.npz``.

    Returns:
        list of `Case`.

    Example:

    >>> for case in load_cases():
    ...     model = build(case.config, case.options, case.weights)
    ...     for arrays, expected in zip(case.inputs, case.outputs):
    ...         compare(model.predict_on_batch(arrays), expected)
    """
    folder = Path(folder)
    document = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    with np.load(folder / "inputs.npz") as file:
        inputs = dict(file)
    with np.load(folder / "outputs.npz") as file:
        outputs = dict(file)

    def arrays(case, kind, count):
        return [
            [outputs[f"{case['name']}/{kind}_{i}_batch_{batch}"] for i in range(count)]
            for batch in range(len(case["inputs"]))
        ]

    cases = []
    for case in document["cases"]:
        hidden_states = arrays(case, "hidden", case["hidden_states"])
        weights = {}
        if case["weights"] is not None:
            weights = named_weights(document["weights"], case["weights"])
        cases.append(
            Case(
                name=case["name"],
                source=case["source"],
                config=case["config"],
                options=_options(case["options"]),
                condition_size=case["condition_size"],
                checkpoint=case["checkpoint"],
                weights={k: v for k, v in weights.items() if k not in case["without"]},
                inputs=[[inputs[key] for key in keys] for keys in case["inputs"]],
                outputs=arrays(case, "output", len(case["outputs"])),
                hidden_states=hidden_states if case["hidden_states"] else [],
                notes=case["notes"],
                compare=case.get("compare", "all"),
            )
        )
    return cases
