"""Makes `qwen3.npz`: vectors and logits of Qwen3-Embedding and Qwen3-Reranker, on a small Qwen3.

The weights are drawn by name; the tokenizer has bytes, a few merges, and the special tokens of
Qwen3, and that of `embedding` puts `<|endoftext|>` after a text, as the published one does. What
is computed is what the READMEs of the published models describe, by transformers in float32, one
text at a time. `classifier` is the port with `Qwen3ForSequenceClassification`.

    python -m goldens.make_qwen3              # in tests, with transformers 5.23.0 and PyTorch 2.13
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from .make_sentences import safetensors
from .recipes import random_tensor

GOLDEN = Path(__file__).resolve().parent / "qwen3.npz"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
MERGES = [("e", "s"), ("y", "es"), ("n", "o"), ("Ċ", "Ċ"), ("å", "¤"), ("å¤", "§"), ("t", "h")]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONFIG = {
    "model_type": "qwen3",
    "vocab_size": 280,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 48,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": None,
    "max_window_layers": 2,
    "torch_dtype": "float32",
}
CLASSES = {
    "embedding": "Qwen3ForCausalLM",  # as the published config says; its weights lack `model.`
    "reranker": "Qwen3ForCausalLM",
    "classifier": "Qwen3ForSequenceClassification",
}
PROMPT = "Instruct: Find the answer\nQuery:"
TEXTS = [
    "大熊猫吃什么",
    "yes",
    "",
    "the panda eats bamboo, 竹子",
    "大" * 50,
    "a<|endoftext|>b",
    "no ",
]
QUERY, INSTRUCTION = "what do pandas eat?", "Find the answer"
PASSAGES = ["bamboo", "大熊猫吃竹子。" * 30, "the <|im_end|> is here", "no", "yes yes\n\n"]
MAXLEN = 300  # the second passage loses its end
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def _alphabet():
    """The characters of the 256 bytes, in the order of the bytes."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


def tokenizer_json(case):
    """The contents of `tokenizer.json`."""
    vocab = {token: i for i, token in enumerate([*_alphabet(), *map("".join, MERGES)])}
    first = len(vocab)
    added = [
        {
            **{"id": first + i, "content": token, "single_word": False, "lstrip": False},
            **{"rstrip": False, "normalized": False, "special": token.startswith("<|")},
        }
        for i, token in enumerate(SPECIALS)
    ]
    levels = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    processor = {"type": "ByteLevel", **levels}
    if case == "embedding":
        end = {"id": SPECIALS[0], "type_id": 0}
        text = {"Sequence": {"id": "A", "type_id": 0}}
        second = {"Sequence": {"id": "B", "type_id": 0}}
        template = {
            "type": "TemplateProcessing",
            "single": [text, {"SpecialToken": end}],
            "pair": [text, {"SpecialToken": end}, second, {"SpecialToken": end}],
            "special_tokens": {
                SPECIALS[0]: {"id": SPECIALS[0], "ids": [first], "tokens": [SPECIALS[0]]}
            },
        }
        processor = {"type": "Sequence", "processors": [processor, template]}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, {"type": "ByteLevel", **levels}],
        },
        "post_processor": processor,
        "decoder": {"type": "ByteLevel", **levels},
        "model": {
            **{"type": "BPE", "dropout": None, "unk_token": None, "ignore_merges": False},
            **{"continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False},
            **{"byte_fallback": False, "vocab": vocab, "merges": [list(m) for m in MERGES]},
        },
    }


def weights(case):
    """The weights by name, as the published files have them."""
    c = CONFIG
    width, inner, head = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    queries, keys = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    shapes = {"embed_tokens.weight": (c["vocab_size"], width), "norm.weight": (width,)}
    for i in range(c["num_hidden_layers"]):
        block = {
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        shapes |= {f"layers.{i}.{name}.weight": shape for name, shape in block.items()}
    prefix = "" if case == "embedding" else "model."
    arrays = {prefix + name: random_tensor(name, shape) for name, shape in shapes.items()}
    if case == "classifier":
        vocab = tokenizer_json(case)["model"]["vocab"]
        table = arrays["model.embed_tokens.weight"]
        arrays["score.weight"] = (table[vocab["yes"]] - table[vocab["no"]])[None]
    return arrays


def write_case(folder, case):
    """Writes the directory of a case into an existing one."""
    folder, pad = Path(folder), tokenizer_json(case)["added_tokens"][0]["id"]
    config = {**CONFIG, "architectures": [CLASSES[case]], "eos_token_id": pad}
    if case == "classifier":
        labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "num_labels": 1}
        config |= {"pad_token_id": pad, **labels}
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer_json(case),
        "tokenizer_config.json": {
            **{"tokenizer_class": "Qwen2Tokenizer", "pad_token": SPECIALS[0]},
            **{"eos_token": SPECIALS[2], "bos_token": None, "unk_token": None},
        },
    }
    if case == "embedding":
        kinds = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
        files["modules.json"] = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(kinds)
        ]
        files["1_Pooling/config.json"] = {
            "word_embedding_dimension": CONFIG["hidden_size"],
            "pooling_mode_mean_tokens": False,
            "pooling_mode_lasttoken": True,
            "include_prompt": True,
        }
        prompts = {"query": PROMPT, "document": ""}
        files["config_sentence_transformers.json"] = {"prompts": prompts}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(weights(case)))


def reference(folder, case):
    """What transformers computes for a directory: name -> array."""
    import torch
    import transformers
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")

    def ids_of(text, **options):
        return tokenizer(text, **options)["input_ids"]

    def run(cls, rows):
        model = getattr(transformers, cls).from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            return [model(torch.tensor([ids])) for ids in rows]

    if case == "embedding":
        texts = [*TEXTS, *(PROMPT + text for text in TEXTS)]
        states = run("Qwen3Model", map(ids_of, texts))
        vectors = torch.cat([x.last_hidden_state[:, -1] for x in states])
        vectors = torch.nn.functional.normalize(vectors, dim=-1).reshape(2, len(TEXTS), -1)
        return {"embedding": vectors.numpy()}
    prefix, suffix = (ids_of(x, add_special_tokens=False) for x in (PREFIX, SUFFIX))
    room = MAXLEN - len(prefix) - len(suffix)
    bodies = [
        f"<Instruct>: {INSTRUCTION}\n<Query>: {QUERY}\n<Document>: {passage}"
        for passage in PASSAGES
    ]
    rows = [prefix + ids_of(x, truncation=True, max_length=room) + suffix for x in bodies]
    logits = torch.cat([x.logits[:, -1] if x.logits.ndim == 3 else x.logits
                        for x in run(CLASSES[case], rows)])  # fmt: skip
    if case == "classifier":
        return {"classifier": logits[:, 0].numpy()}
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    both = torch.stack([logits[:, no], logits[:, yes]], 1)
    return {
        "reranker": torch.softmax(both, 1)[:, 1].numpy(),
        "reranker_ids": np.array(rows[0]),
        **in_bfloat16(folder, torch.tensor([rows[0]])),
    }


def in_bfloat16(folder, ids):
    """Logits of the weights rounded to bfloat16: computed in float32, and in bfloat16."""
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        half = model(ids).logits[0, -16:].float()
        full = model.float()(ids).logits[0, -16:]
    return {"logits_bfloat16": half.numpy(), "logits_rounded": full.numpy()}


if __name__ == "__main__":
    arrays = {}
    for case in CLASSES:
        with tempfile.TemporaryDirectory() as folder:
            write_case(folder, case)
            arrays |= reference(folder, case)
    print({name: array.shape for name, array in arrays.items()}, arrays["reranker"])
    np.savez(GOLDEN, **arrays)
    print(f"wrote {GOLDEN.name}, {GOLDEN.stat().st_size} bytes")
