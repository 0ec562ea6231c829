"""Makes `m3.npz`: what BGE-M3's formulas give on the states of transformers' XLM-R.

The model is small, its weights are drawn by name, and its two linear layers are files that
PyTorch writes, in float16 like the published ones. Formulas: FlagEmbedding 1.4.0, `M3Embedder`.

    python -m goldens.make_m3              # in tests, with transformers 5.23.0 and PyTorch 2.13
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from .make_sentences import safetensors
from .recipes import random_tensor

GOLDEN = Path(__file__).resolve().parent / "m3.npz"
FILES = {"sparse_linear.pt": 1, "colbert_linear.pt": 24}  # name -> number of outputs
SIZE, INNER, POSITIONS = 16, 32, 34
CHARACTERS = "天地人不是大小今气真好熊猫吃什么竹子为食以"
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "▁", *CHARACTERS, "<mask>"]
TEXTS = [
    "熊猫吃什么",
    "大熊猫以竹子为食",
    "",
    "今天天气真好" * 9,  # loses its end
    "大大小小 是人",
    "天</s>地<mask>人",
    "不x是",
    "人",
]
CONFIG = {
    "architectures": ["XLMRobertaModel"],
    "model_type": "xlm-roberta",
    "vocab_size": len(TOKENS),
    "hidden_size": SIZE,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 1,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


def _shapes():
    """Shapes of the weights of the encoder, by name."""
    tables = {"word": len(TOKENS), "position": POSITIONS, "token_type": 1}
    shapes = {f"embeddings.{k}_embeddings.weight": (rows, SIZE) for k, rows in tables.items()}
    layers = {"embeddings.LayerNorm": (SIZE,)}
    for i in range(CONFIG["num_hidden_layers"]):
        block = f"encoder.layer.{i}"
        square = ("self.query", "self.key", "self.value", "output.dense")
        layers |= {f"{block}.attention.{name}": (SIZE, SIZE) for name in square}
        layers |= {
            f"{block}.attention.output.LayerNorm": (SIZE,),
            f"{block}.intermediate.dense": (INNER, SIZE),
            f"{block}.output.dense": (SIZE, INNER),
            f"{block}.output.LayerNorm": (SIZE,),
        }
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def _tokenizer():
    """The `tokenizer.json` of an XLM-R of characters."""
    ids = {token: i for i, token in enumerate(TOKENS)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    specials = [token for token in TOKENS if token.startswith("<")]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    around = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", "</s>")]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[t], "content": t, "special": True, **flags, "lstrip": t == "<mask>"}
            for t in specials
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, space],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [around[0], first, around[1]],
            "pair": [around[0], first, around[1], around[1], second, around[1]],
            "special_tokens": {
                t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<s>", "</s>")
            },
        },
        "decoder": space,
        "model": {
            "type": "Unigram",
            "unk_id": ids["<unk>"],
            "vocab": [[t, 0.0 if t in specials else -1.0 - ids[t] / 100] for t in TOKENS],
            "byte_fallback": False,
        },
    }


def write_m3(folder, linear):
    """Writes the directory of the model into an existing one.

    Args:
        folder: a path.
        linear: dict name -> bytes of the files of the two linear layers.
    """
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>"}
    names |= {"unk": "<unk>", "mask": "<mask>"}
    tokenizer = {f"{name}_token": token for name, token in names.items()}
    tokenizer |= {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": POSITIONS - 2}
    texts = {"config.json": CONFIG, "tokenizer.json": _tokenizer()}
    for name, content in {**texts, "tokenizer_config.json": tokenizer}.items():
        Path(folder, name).write_text(json.dumps(content), "utf-8")
    weights = {
        # kernels and tables are larger than usual, so that texts have vectors of all directions
        name: random_tensor(f"m3/{name}", shape) * (4 if len(shape) == 2 else 1)
        for name, shape in _shapes().items()
    }
    Path(folder, "model.safetensors").write_bytes(safetensors(weights))
    for name, content in linear.items():
        Path(folder, name).write_bytes(content)


def linear_files():
    """Returns dict name -> bytes: the two linear layers as PyTorch wrote them."""
    with np.load(GOLDEN) as golden:
        return {name: golden[name].tobytes() for name in FILES}


def _written_by_torch(name):
    import torch

    shapes = {"weight": (FILES[name], SIZE), "bias": (FILES[name],)}
    weights = {k: random_tensor(f"m3/{name}/{k}", shape, seed=9) for k, shape in shapes.items()}
    file = io.BytesIO()
    torch.save({k: torch.from_numpy(w).half() for k, w in weights.items()}, file)
    return file.getvalue()


def _reference(folder):
    """Returns the arrays of the golden file."""
    import torch
    from torch.nn.functional import linear, normalize
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    assert model.state_dict().keys() >= _shapes().keys()
    layers = [torch.load(Path(folder, name), weights_only=True) for name in FILES]
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    mask = batch["attention_mask"]
    with torch.no_grad():
        states = model(**batch).last_hidden_state
        weights, vectors = (
            linear(states, layer["weight"].float(), layer["bias"].float()) for layer in layers
        )
        dense = normalize(states[:, 0], dim=-1)
        sparse = torch.zeros(len(TEXTS), len(TOKENS))
        sparse = sparse.scatter_reduce(1, batch["input_ids"], weights[..., 0].relu(), "amax")
        sparse[:, [tokenizer.cls_token_id, tokenizer.eos_token_id]] = 0
        sparse[:, [tokenizer.pad_token_id, tokenizer.unk_token_id]] = 0
        multi = normalize(vectors[:, 1:] * mask[:, 1:, None], dim=-1)
        products = torch.einsum("qin,pjn->qipj", multi, multi)
        # without the padding, as on the vectors that FlagEmbedding returns
        best = products.masked_fill(mask[None, None, :, 1:] == 0, -2).max(dim=-1).values
        best = best * mask[:, 1:, None]
        similarity = [
            dense @ dense.T,
            sparse @ sparse.T,
            best.sum(dim=1) / mask[:, 1:].sum(dim=-1, keepdim=True),
        ]
    arrays = {"dense": dense, "sparse": sparse, "multi": multi, "mask": mask[:, 1:].bool()}
    return {**arrays, "similarity": torch.stack(similarity)}


if __name__ == "__main__":
    linear = {name: _written_by_torch(name) for name in FILES}
    with tempfile.TemporaryDirectory() as folder:
        write_m3(folder, linear)
        arrays = {name: array.numpy() for name, array in _reference(folder).items()}
    for name, array in arrays.items():
        print(f"{name:12} {array.shape} std {array.std():.2f}", file=sys.stderr)
    contents = {name: np.frombuffer(content, "uint8") for name, content in linear.items()}
    np.savez_compressed(GOLDEN, **arrays, **contents)
    print(f"wrote {GOLDEN.name}, {GOLDEN.stat().st_size} bytes", file=sys.stderr)
