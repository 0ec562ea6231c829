"""Writing speed of one contender in one case.

    python benchmarks/writing.py CONTENDER CASE [--quick]

`greedy1`, `greedy16` and `beam4` (batch 1 and 16; four beams) continue a prompt of 32 tokens with
a GPT-2 of 12 layers, 768 wide; `unilm` answers a source of 128 tokens with a BERT-base, `t5` with
a T5 1.1 of base shape, both with four beams. Weights are random, and no token ends a text, so that
each call writes 64 tokens a row. `limit`, for ours on a backend: how long it takes to multiply a
vector by all matrices of that GPT-2 once, which nothing can write a token without.

Prints one line of JSON; memory is in bytes, less what the process held before loading. `--quick`
only shows that a contender runs: two layers, one timed call.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import tempfile
import time

import numpy as np
from loading import peak_memory

NEW = 64
SECONDS, MOST = 15, 5  # time spent on the timed calls, and calls at most
NEAR = 3  # so many tokens longer or shorter than the prompts before
VOCABULARY = 21128
GPT2 = {
    "vocab_size": VOCABULARY,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
T5 = GPT2 | {"vocab_size": 32128, "intermediate_size": 2048}
# case -> rows, tokens of a prompt, beams, and the peers that can take part. bert4keras writes one
# row after the other, so that a batch tells nothing new of it.
CASES = {
    "greedy1": (1, 32, 1, ("keras-hub-jax", "keras-hub-tensorflow", "transformers", "bert4keras")),
    "beam4": (1, 32, 4, ("keras-hub-jax", "keras-hub-tensorflow", "transformers", "bert4keras")),
    "greedy16": (16, 32, 1, ("keras-hub-jax", "keras-hub-tensorflow", "transformers")),
    "unilm": (1, 128, 4, ("bert4keras",)),
    "t5": (1, 128, 4, ("transformers",)),
}


# Each contender imports what it needs and returns a function that makes the model, and returns
# one that writes: token ids (rows, length) in, the new ones out.


def ours(case, backend, kind="float32"):
    os.environ["KERAS_BACKEND"] = backend
    import keras

    from bert4keras_lite import build_transformer_model, generate

    options = {
        "unilm": GPT2 | {"application": "unilm"},
        "t5": T5 | {"model": "t5.1.1", "hidden_act": "gelu_tanh", "gated": True},
    }.get(case, GPT2 | {"model": "gpt2"})
    beams = CASES[case][2]
    # what libraries import when they are first used is not the model's memory
    small = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    build_transformer_model(**options | small | {"intermediate_size": 8}).quantize("int8")

    def load():
        keras.config.set_dtype_policy("bfloat16" if kind == "bfloat16" else "float32")
        model = build_transformer_model(**options, with_lm="linear")
        if kind == "int8":
            model.quantize("int8")

        def write(rows):
            found = generate(model, rows.tolist(), NEW, num_beams=beams)
            return [sequences[0].ids for sequences in found]

        return write

    return load


def ours_onnx(case):
    os.environ["KERAS_BACKEND"] = "torch"

    def load():
        import keras

        from bert4keras_lite import build_transformer_model
        from bert4keras_lite.generation import OnnxWriter, export_writer

        _, length, beams, _ = CASES[case]
        model = build_transformer_model(**GPT2, model="gpt2", with_lm="linear")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "gpt2.onnx")
            export_writer(model, path, slots=length + NEW + NEAR, int8=True)
            writer = OnnxWriter(path, end_id=-1, maxlen=NEW)
        del model
        keras.utils.clear_session(free_memory=True)
        return lambda rows: [writer.beam_search([row], topk=beams) for row in rows]

    return load


def transformers(case):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    if case == "t5":
        kind = T5ForConditionalGeneration
        config = T5Config(
            vocab_size=T5["vocab_size"],
            d_model=T5["hidden_size"],
            d_ff=T5["intermediate_size"],
            num_layers=T5["num_hidden_layers"],
            num_heads=T5["num_attention_heads"],
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=0,
        )
    else:
        kind = GPT2LMHeadModel
        config = GPT2Config(vocab_size=VOCABULARY, n_layer=GPT2["num_hidden_layers"])
    options = {"max_new_tokens": NEW, "do_sample": False, "num_beams": CASES[case][2]}

    def load():
        model = kind(config).eval()
        model.generation_config.eos_token_id = None

        def write(rows):
            rows = torch.tensor(rows)
            mask = torch.ones_like(rows)
            with torch.inference_mode():
                ids = model.generate(rows, attention_mask=mask, pad_token_id=0, **options)
            return ids[:, 1 if case == "t5" else rows.shape[1] :].numpy()

        return write

    return load


def keras_hub(case, backend):
    os.environ["KERAS_BACKEND"] = backend
    import keras_hub

    beams = CASES[case][2]

    def load():
        backbone = keras_hub.models.GPT2Backbone(
            VOCABULARY,
            num_layers=GPT2["num_hidden_layers"],
            num_heads=GPT2["num_attention_heads"],
            hidden_dim=GPT2["hidden_size"],
            intermediate_dim=GPT2["intermediate_size"],
            max_sequence_length=1024,
        )
        model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
        model.compile(
            sampler=keras_hub.samplers.BeamSampler(num_beams=beams) if beams > 1 else "greedy"
        )

        def write(rows):
            room = ((0, 0), (0, NEW))
            prompt = {"token_ids": np.pad(rows, room), "padding_mask": np.pad(rows > 0, room)}
            ids = model.generate(prompt, stop_token_ids=None)["token_ids"]
            return np.asarray(ids)[:, rows.shape[1] :]

        return write

    return load


def bert4keras(case):
    os.environ |= {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}
    from bert4keras.models import build_transformer_model
    from bert4keras.snippets import AutoRegressiveDecoder

    options = {"application": "unilm"} if case == "unilm" else {"model": "gpt2"}
    beams = CASES[case][2]

    def load():
        model = build_transformer_model(**GPT2, **options, hidden_act="gelu", max_position=1024)

        class Writer(AutoRegressiveDecoder):
            @AutoRegressiveDecoder.wraps(default_rtype="probas")
            def predict(self, inputs, output_ids, states):
                tokens = np.concatenate([inputs[0], output_ids], 1)
                segments = np.concatenate([0 * inputs[0], np.ones_like(output_ids)], 1)
                inputs = [tokens, segments] if case == "unilm" else tokens
                return self.last_token(model).predict(inputs, verbose=0)

        writer = Writer(start_id=None, end_id=-1, maxlen=NEW)
        return lambda rows: [writer.beam_search([row], topk=beams) for row in rows]

    return load


BACKENDS = ("jax", "tensorflow", "torch")
CONTENDERS = {
    **{f"ours-{backend}": (ours, backend) for backend in BACKENDS},
    **{f"ours-{backend}-int8": (ours, backend, "int8") for backend in BACKENDS},
    "ours-torch-bf16": (ours, "torch", "bfloat16"),
    "ours-onnx-int8": (ours_onnx,),
    "transformers": (transformers,),
    "keras-hub-jax": (keras_hub, "jax"),
    "keras-hub-tensorflow": (keras_hub, "tensorflow"),
    "bert4keras": (bert4keras,),
}


def measure(contender, case, calls):
    """Speed and memory of a contender; the median of several calls after one that compiles."""
    maker, *arguments = CONTENDERS[contender]
    rows, length, *_ = CASES[case]
    random = np.random.RandomState(0)
    load = maker(case, *arguments)
    before = resident_memory()
    write = load()
    loaded = {"held": resident_memory() - before, "loading": peak_memory() - before}

    def seconds(length):
        prompt = random.randint(1, VOCABULARY, (rows, length))
        start = time.perf_counter()
        written = np.shape(write(prompt))
        elapsed = time.perf_counter() - start
        if written != (rows, NEW):
            raise RuntimeError(f"{contender} wrote {written}, not {rows} x {NEW} tokens.")
        return elapsed

    first = seconds(length)
    reset_peak_memory()
    times = []
    while not times or (sum(times) < SECONDS and len(times) < calls):
        times.append(seconds(length))
    peak = peak_memory() - before
    call = statistics.median(times)
    return {
        "tokens_per_second": rows * NEW / call,
        "first_call_seconds": first,
        "call_seconds": call,
        "longer_prompt_seconds": seconds(length + NEAR),
        "shorter_prompt_seconds": seconds(length - NEAR),
        "memory": loaded | {"writing": peak},
    }


def limit(backend):
    """One vector through all matrices of the GPT-2, as one program."""
    os.environ["KERAS_BACKEND"] = backend
    from keras import ops

    width, inner = GPT2["hidden_size"], GPT2["intermediate_size"]
    shapes = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    random = np.random.default_rng(0)

    def matrix(rows, columns):
        values = random.standard_normal((rows, columns), "float32") / np.float32(rows**0.5)
        return ops.convert_to_tensor(values)

    blocks = [[matrix(*shape) for shape in shapes] for _ in range(GPT2["num_hidden_layers"])]
    head, x = matrix(width, VOCABULARY), matrix(1, width)
    size = 4 * (len(blocks) * sum(a * b for a, b in shapes) + width * VOCABULARY)

    def through(x, blocks, head):
        for qkv, output, up, down in blocks:
            # all of a product takes part, or a compiler could leave out what nobody asks for
            x = x @ qkv
            x = (x[:, :width] + x[:, width : 2 * width] + x[:, 2 * width :]) @ output
            x = x @ up @ down
        return x @ head

    program = through
    if backend == "jax":
        import jax

        program = jax.jit(through)
    elif backend == "tensorflow":
        import tensorflow as tf

        program = tf.function(through, jit_compile=True)
    ops.convert_to_numpy(program(x, blocks, head))  # compiles
    times = []
    for _ in range(100):
        start = time.perf_counter()
        ops.convert_to_numpy(program(x, blocks, head))
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    return {"seconds": seconds, "bytes_per_second": size / seconds}


def resident_memory():
    """Bytes of memory that this process holds now, without what it freed and may give back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset_peak_memory():
    """What `peak_memory` tells begins anew (proc(5), clear_refs)."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("case", choices=[*CASES, "limit"])
    parser.add_argument("--quick", action="store_true", help="two layers, one timed call")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.quick:
        for shape in (GPT2, T5):
            shape["num_hidden_layers"] = 2
    if options.case == "limit":
        result = limit(options.contender.removeprefix("ours-"))
    else:
        result = measure(options.contender, options.case, 1 if options.quick else MOST)
    print(json.dumps({"contender": options.contender, "case": options.case} | result))


if __name__ == "__main__":
    main()
