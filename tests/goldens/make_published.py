"""Makes `published.json`: names and shapes of the arrays in published checkpoints, by transformers.

    python tests/goldens/make_published.py        # with transformers 5.23.0 and PyTorch

Each row has the class and those keys of the published config that tell the architecture. The class
is built without memory for its weights, and the names of blocks are joined, with `{i}` for their
number. No published file was opened; the sizes are those of the publishers' configs, and a size
that is wrong here gives another number of parameters than names and model cards tell.
"""

import json
import re
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "published.json"


def bert(hidden, layers, heads, vocab=21128, **keys):
    """Keys of a BERT's config; `heads` of them, and 4 times as wide in between."""
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    sizes |= {"intermediate_size": 4 * hidden, "vocab_size": vocab, "type_vocab_size": 2}
    usual = {"model_type": "bert", "hidden_act": "gelu", "max_position_embeddings": 512}
    return sizes | usual | {"layer_norm_eps": 1e-12, "pad_token_id": 0} | keys


def ernie(hidden, layers, heads, tasks=3, **keys):
    """Keys of an ERNIE 3.0's config."""
    own = {"model_type": "ernie", "use_task_id": True, "task_type_vocab_size": tasks}
    own |= {"type_vocab_size": 4, "max_position_embeddings": 2048, "layer_norm_eps": 1e-5}
    return bert(hidden, layers, heads, 40000) | own | keys


def roberta(hidden, layers, heads, vocab, **keys):
    """Keys of a RoBERTa's config."""
    own = {"model_type": "roberta", "type_vocab_size": 1, "max_position_embeddings": 514}
    own |= {"layer_norm_eps": 1e-5, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return bert(hidden, layers, heads, vocab) | own | keys


def xlm_roberta(hidden, layers, heads, **keys):
    """Keys of an XLM-R's config."""
    return roberta(hidden, layers, heads, 250002) | {"model_type": "xlm-roberta"} | keys


def deberta(hidden, layers, heads, **keys):
    """Keys of the config of an Erlangshen-DeBERTa-v2."""
    own = {"model_type": "deberta-v2", "relative_attention": True, "position_biased_input": False}
    own |= {"position_buckets": 256, "max_relative_positions": -1, "norm_rel_ebd": "layer_norm"}
    own |= {"share_att_key": True, "pos_att_type": "c2p|p2c", "conv_kernel_size": 3}
    own |= {"conv_act": "gelu", "layer_norm_eps": 1e-7, "type_vocab_size": 0}
    return bert(hidden, layers, heads, 12800) | own | keys


LABELS = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
NAMED = {"id2label": {"0": "negative", "1": "positive"}}
LONG = {"max_position_embeddings": 8194}
# name on the hub -> class, config
PUBLISHED = {
    "hfl/chinese-lert-base": ("BertForMaskedLM", bert(768, 12, 12)),
    "hfl/chinese-pert-base": ("BertModel", bert(768, 12, 12)),
    "BAAI/bge-small-zh-v1.5": ("BertModel", bert(512, 4, 8)),
    "BAAI/bge-base-zh-v1.5": ("BertModel", bert(768, 12, 12)),
    "BAAI/bge-large-zh-v1.5": (
        "BertModel",
        bert(1024, 24, 16, bos_token_id=0, eos_token_id=2, **LABELS),
    ),
    "moka-ai/m3e-base": ("BertModel", bert(768, 12, 12)),
    "thenlper/gte-base-zh": ("BertModel", bert(768, 12, 12)),
    "shibing624/text2vec-base-chinese": ("BertModel", bert(768, 12, 12)),
    "shibing624/text2vec-base-chinese-sentence": ("ErnieModel", ernie(768, 12, 12)),
    "shibing624/text2vec-base-chinese-paraphrase": ("ErnieModel", ernie(768, 12, 12)),
    "infgrad/stella-large-zh-v3-1792d": ("BertModel", bert(1024, 24, 16)),
    "uer/roberta-base-finetuned-jd-binary-chinese": (
        "BertForSequenceClassification",
        bert(768, 12, 12, **NAMED),
    ),
    "uer/roberta-base-finetuned-cluener2020-chinese": (
        "BertForTokenClassification",
        bert(768, 12, 12, id2label={str(i): f"T{i}" for i in range(32)}),
    ),
    "nghuyong/ernie-1.0-base-zh": (
        "ErnieForMaskedLM",
        bert(768, 12, 12, 18000, model_type="ernie", hidden_act="relu", layer_norm_eps=1e-5)
        | {"max_position_embeddings": 513},
    ),
    "nghuyong/ernie-3.0-nano-zh": ("ErnieForMaskedLM", ernie(312, 4, 12, 16)),
    "nghuyong/ernie-3.0-base-zh": ("ErnieForMaskedLM", ernie(768, 12, 12)),
    "nghuyong/ernie-3.0-xbase-zh": ("ErnieForMaskedLM", ernie(1024, 20, 16, 16)),
    "linyi/ern3": ("ErnieForMaskedLM", ernie(768, 12, 12, model_type="bert")),
    "FacebookAI/roberta-base": ("RobertaForMaskedLM", roberta(768, 12, 12, 50265)),
    "ethanyt/guwenbert-base": ("RobertaForMaskedLM", roberta(768, 12, 12, 23292)),
    "FacebookAI/xlm-roberta-base": ("XLMRobertaForMaskedLM", xlm_roberta(768, 12, 12)),
    "intfloat/multilingual-e5-base": ("XLMRobertaModel", xlm_roberta(768, 12, 12)),
    "maidalun1020/bce-embedding-base_v1": ("XLMRobertaModel", xlm_roberta(768, 12, 12)),
    "BAAI/bge-m3": ("XLMRobertaModel", xlm_roberta(1024, 24, 16, **LONG)),
    "BAAI/bge-reranker-base": (
        "XLMRobertaForSequenceClassification",
        xlm_roberta(768, 12, 12, **LABELS),
    ),
    "BAAI/bge-reranker-large": (
        "XLMRobertaForSequenceClassification",
        xlm_roberta(1024, 24, 16, **LABELS),
    ),
    "BAAI/bge-reranker-v2-m3": (
        "XLMRobertaForSequenceClassification",
        xlm_roberta(1024, 24, 16, **LONG, **LABELS),
    ),
    "maidalun1020/bce-reranker-base_v1": (
        "XLMRobertaForSequenceClassification",
        xlm_roberta(768, 12, 12, **LABELS),
    ),
    "IDEA-CCNL/Erlangshen-DeBERTa-v2-97M-Chinese": ("DebertaV2ForMaskedLM", deberta(768, 12, 12)),
    "IDEA-CCNL/Erlangshen-DeBERTa-v2-320M-Chinese": ("DebertaV2ForMaskedLM", deberta(1024, 24, 16)),
    "IDEA-CCNL/Erlangshen-MegatronBert-1.3B": (
        "MegatronBertForPreTraining",
        bert(2048, 24, 32, model_type="megatron-bert"),
    ),
    "distilbert/distilbert-base-multilingual-cased": (
        "DistilBertForMaskedLM",
        {"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072}
        | {"vocab_size": 119547, "activation": "gelu", "max_position_embeddings": 512},
    ),
    "answerdotai/ModernBERT-base": (
        "ModernBertForMaskedLM",
        {"model_type": "modernbert", "hidden_size": 768, "num_hidden_layers": 22}
        | {"num_attention_heads": 12, "intermediate_size": 1152, "vocab_size": 50368}
        | {"layer_norm_eps": 1e-5, "norm_eps": 1e-5, "position_embedding_type": "absolute"}
        | {"classifier_pooling": "mean", "max_position_embeddings": 8192, "pad_token_id": 50283},
    ),
    "EuroBERT/EuroBERT-210m": (
        "EuroBertForMaskedLM",
        {"model_type": "eurobert", "hidden_size": 768, "num_hidden_layers": 12}
        | {"num_attention_heads": 12, "num_key_value_heads": 12, "intermediate_size": 3072}
        | {"vocab_size": 128256, "rope_theta": 250000, "rms_norm_eps": 1e-5, "hidden_act": "silu"}
        | {"max_position_embeddings": 8192, "pad_token_id": 128001, "tie_word_embeddings": False},
    ),
    "Alibaba-NLP/gte-multilingual-base": (
        "NewModel",
        bert(768, 12, 12, 250048, model_type="new", type_vocab_size=1, pad_token_id=1)
        | {"rope_theta": 20000, "rope_scaling": {"type": "ntk", "factor": 8.0}, "pack_qkv": True}
        | {"position_embedding_type": "rope", "layer_norm_type": "layer_norm"}
        | {"max_position_embeddings": 8192},
    ),
    "sentence-transformers/all-MiniLM-L6-v2": ("BertModel", bert(384, 6, 12, 30522)),
}


def arrays(name, config):
    """Names and shapes of the arrays in a file of a class, without tied copies."""
    import torch
    import transformers

    model_type = {"new": "gte"}.get(config["model_type"], config["model_type"])
    model_type = "ernie" if name.startswith("Ernie") else model_type
    values = {key: value for key, value in config.items() if key != "model_type"}
    if model_type == "gte":
        return arrays_of_gte(values)
    with torch.device("meta"):
        model = getattr(transformers, name)(transformers.AutoConfig.for_model(model_type, **values))
    return {key: list(tensor.shape) for key, tensor in model.named_parameters()}  # each once


def arrays_of_gte(values):
    """The same for gte, whose arrays have other names and shapes in files than in the class."""
    import transformers
    from safetensors import safe_open

    blocks, rows = values["num_hidden_layers"], values["vocab_size"]
    sizes = ("hidden_size", "num_attention_heads", "intermediate_size", "type_vocab_size")
    config = transformers.GteConfig(
        vocab_size=8, num_hidden_layers=1, pad_token_id=1, **{key: values[key] for key in sizes}
    )
    with tempfile.TemporaryDirectory() as folder:
        transformers.GteModel(config).save_pretrained(folder)
        with safe_open(f"{folder}/model.safetensors", "numpy") as file:
            found = {name: file.get_slice(name).get_shape() for name in [*file.keys()]}
    every = {
        name.replace("layer.0.", f"layer.{i}."): shape
        for i in range(blocks)
        for name, shape in found.items()
    }
    # published files have the prefix of the class in their own code
    return {
        f"new.{name}": [rows if size == 8 else size for size in shape]
        for name, shape in every.items()
    }


def by_block(shapes):
    """Joins the arrays of blocks: name with `{i}` -> shape, first and last block."""
    found = {}
    for name, shape in shapes.items():
        block = re.search(r"\blayers?\.(\d+)\.", name)
        if not block:
            found[name] = [shape]
            continue
        key = name[: block.start(1)] + "{i}" + name[block.end(1) :]
        first = found.get(key, [shape, int(block[1])])[1]
        found[key] = [shape, first, int(block[1])]
    return found


if __name__ == "__main__":
    rows = []
    for checkpoint, (name, config) in PUBLISHED.items():
        shapes = by_block(arrays(name, config))
        row = {"config": config | {"architectures": [name]}, "arrays": shapes}
        rows.append(f"{json.dumps(checkpoint)}: {json.dumps(row)}")
        print(checkpoint, flush=True)
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")
