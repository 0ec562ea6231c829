"""From a checkpoint on disk to the first result: seconds and memory, for every family.

    python benchmarks/loading.py make FAMILY DIRECTORY
    python benchmarks/loading.py CONTENDER FAMILY DIRECTORY

The first writes random weights of base size as `tf/` (the names of the family's publisher) and,
where Hugging Face has the family, as `hf/` (safetensors) and `bin/` (PyTorch); the second loads
one of them. The clock starts after the imports; the files are in the page cache. Both print one
line of JSON: `seconds` pass until the first result, and `cpu` are seconds of all processors, less
dependent on what else runs (`cpu_process` with the imports). Memory is the peak of the process up
to the first result, in bytes, less what it held before loading. (Up to the first result, because a
file that is only mapped takes none until then.) On JAX, the first result is that of one program.
"""

import json
import os
import re
import shutil
import sys
import time
from functools import partial
from pathlib import Path

BASE = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_POOLED = {"with_pool": True}
_LOGITS = {"with_lm": "linear"}

# family -> (its sizes, the heads it is loaded with)
FAMILIES = {
    "bert": (BASE, _POOLED),
    "albert": (BASE | {"embedding_size": 128}, _POOLED),
    "nezha": (BASE, _POOLED),
    "roformer": (BASE | {"vocab_size": 50000, "max_position": 1536}, {}),
    "roformer_v2": (BASE | {"vocab_size": 12000}, {}),
    "gau_alpha": (
        BASE | {"vocab_size": 12000, "num_hidden_layers": 24, "intermediate_size": 1536}
        | {"num_attention_heads": 1},
        {},
    ),
    "electra": (BASE, {}),
    "gpt": (BASE | {"vocab_size": 13088, "max_position": 513}, _LOGITS),
    "gpt2": (BASE, _LOGITS),
    "gpt2_ml": (BASE | {"max_position": 1024}, _LOGITS),
    "t5.1.0": (BASE | {"vocab_size": 32128}, _LOGITS),
    "t5.1.1": (BASE | {"vocab_size": 32128, "intermediate_size": 2048}, _LOGITS),
    "mt5.1.1": (BASE | {"vocab_size": 250112, "intermediate_size": 2048}, _LOGITS),
    "t5_pegasus": (BASE | {"vocab_size": 50000, "intermediate_size": 2048}, _LOGITS),
}  # fmt: skip


def peak_memory():
    """Most bytes that this process ever held, file pages included."""
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read())[1])


def ours(directory, family):
    import keras
    import numpy as np
    from keras import ops

    from bert4keras_lite import build_transformer_model
    from bert4keras_lite.backend import compiled_by_shape

    ids = np.arange(1, 33, dtype="int32")[None]

    def forward(model):
        # the second input, if any: segments, or the target
        inputs = [ids, ids * 0 + 1][: len(model.inputs)]
        call = partial(model, training=False)
        if keras.backend.backend() == "jax":
            call = compiled_by_shape(call, model.variables)
        ops.convert_to_numpy(keras.tree.flatten(call(inputs))[0])  # waits for the result

    return lambda: build_transformer_model(directory, model=family, **FAMILIES[family][1]), forward


def transformers(directory, family):
    import torch
    import transformers

    config = json.loads(Path(directory, "config.json").read_text("utf-8"))
    kind = getattr(transformers, config["architectures"][0])  # imports its module
    ids = torch.arange(1, 33)[None]
    inputs = {"input_ids": ids}
    if config.get("is_encoder_decoder"):
        inputs["decoder_input_ids"] = torch.ones_like(ids)

    def forward(model):
        with torch.no_grad():
            model(**inputs)

    return lambda: kind.from_pretrained(directory), forward


# name -> (how to load, which files, environment)
CONTENDERS = {
    "ours, TensorFlow checkpoint": (ours, "tf", {"KERAS_BACKEND": "tensorflow"}),
    "ours, safetensors": (ours, "hf", {"KERAS_BACKEND": "tensorflow"}),
    "ours, .bin": (ours, "bin", {"KERAS_BACKEND": "tensorflow"}),
    "ours, TensorFlow checkpoint, PyTorch": (ours, "tf", {"KERAS_BACKEND": "torch"}),
    "ours, safetensors, PyTorch": (ours, "hf", {"KERAS_BACKEND": "torch"}),
    "ours, TensorFlow checkpoint, JAX": (ours, "tf", {"KERAS_BACKEND": "jax"}),
    "ours, safetensors, JAX": (ours, "hf", {"KERAS_BACKEND": "jax"}),
    "transformers, safetensors": (transformers, "hf", {}),
    "transformers, .bin": (transformers, "bin", {}),
}
# What a contender is compared with: the peer on the same files. transformers 5 reads no TensorFlow
# checkpoint, and NEZHA no more.
PEERS = {
    "tf": "transformers, safetensors",
    "hf": "transformers, safetensors",
    "bin": "transformers, .bin",
}
PEERLESS = {"nezha"}


def contenders(family, formats, backends=("tensorflow",)):
    """Names of those that can load the files of a family, on these backends of ours."""
    for name, (prepare, format, environment) in CONTENDERS.items():
        backend = environment.get("KERAS_BACKEND")
        able = backend in backends if prepare is ours else family not in PEERLESS
        if format in formats and able:
            yield name


def make(family, directory):
    """A model with random weights, in all formats that it has; which these are, and its bytes."""
    from bert4keras_lite import build_transformer_model
    from bert4keras_lite.configs.architectures import HUGGING_FACE

    sizes, heads = FAMILIES[family]
    transformer = build_transformer_model(model=family, return_keras_model=False, **sizes, **heads)
    formats = ["tf", "hf"] if family in HUGGING_FACE else ["tf"]
    for format in formats:
        transformer.save_checkpoint(f"{directory}/{format}", format)
    if "hf" in formats:
        import torch
        from safetensors.torch import load_file

        os.mkdir(f"{directory}/bin")
        shutil.copy(f"{directory}/hf/config.json", f"{directory}/bin")
        weights = load_file(f"{directory}/hf/model.safetensors")
        torch.save(weights, f"{directory}/bin/pytorch_model.bin")
        formats.append("bin")
    return {"formats": formats, "bytes": 4 * transformer.model.count_params()}


def measure(contender, family, directory):
    prepare, format, environment = CONTENDERS[contender]
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", **environment})
    load, forward = prepare(f"{directory}/{format}", family)
    before = peak_memory()
    start, cpu = time.perf_counter(), time.process_time()
    forward(load())
    return {
        "contender": contender,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "cpu_process": time.process_time(),
        "memory": peak_memory() - before,
    }


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps(make(*arguments) if what == "make" else measure(what, *arguments)))
