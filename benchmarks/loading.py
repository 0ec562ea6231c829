"""From BERT-base on disk to the first hidden states: seconds and memory.

    python benchmarks/loading.py CONTENDER DIRECTORY

DIRECTORY holds the same weights as `tf/` (Google's files) and `hf/` (Hugging Face's); `run.py`
makes it. The clock starts after the imports; the files are in the page cache. Prints one line of
JSON; memory is the peak of the process less what it held before loading.
"""

import json
import os
import re
import sys
import time

WEIGHTS = 4 * (21128 * 768 + 514 * 768 + 2 * 768 + 12 * 7087872 + 768 * 769)  # bytes, with pooler


def peak_memory():
    """Most bytes that this process ever held, file pages included."""
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read())[1])


def ours(directory):
    import numpy as np

    from bert4keras_lite import build_transformer_model

    ids = np.arange(1, 33, dtype="int32")[None]

    def load():
        return build_transformer_model(directory, with_pool=True)

    return load, lambda model: model([ids, ids * 0], training=False)


def transformers(directory):
    import torch
    from transformers import BertModel
    from transformers.models.bert import modeling_bert  # noqa: F401

    ids = torch.arange(1, 33)[None]

    def forward(model):
        with torch.no_grad():
            return model(input_ids=ids)

    return lambda: BertModel.from_pretrained(directory), forward


CONTENDERS = {
    "ours, TensorFlow checkpoint": (ours, "tf", {"KERAS_BACKEND": "tensorflow"}),
    "ours, safetensors": (ours, "hf", {"KERAS_BACKEND": "tensorflow"}),
    "ours, safetensors, PyTorch": (ours, "hf", {"KERAS_BACKEND": "torch"}),
    "ours, safetensors, JAX": (ours, "hf", {"KERAS_BACKEND": "jax"}),
    "transformers, safetensors": (transformers, "hf", {}),
}


def make(directory):
    """BERT-base with random weights, as both kinds of files."""
    from bert4keras_lite import build_transformer_model

    transformer = build_transformer_model(
        vocab_size=21128,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        with_pool=True,
        return_keras_model=False,
    )
    for format in ("tf", "hf"):
        transformer.save_checkpoint(f"{directory}/{format}", format)


def main(contender, directory):
    if contender == "make":
        make(directory)
        return print("{}")
    prepare, format, environment = CONTENDERS[contender]
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", **environment})
    load, forward = prepare(f"{directory}/{format}")
    before = peak_memory()
    start = time.perf_counter()
    model = load()
    loaded, memory = time.perf_counter() - start, peak_memory() - before
    forward(model)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "contender": contender,
                "seconds": seconds,
                "loading": loaded,
                "memory": memory / WEIGHTS,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
