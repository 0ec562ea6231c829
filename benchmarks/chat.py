"""Memory of loading, and speed of generation, of a model with the shape of Qwen3-0.6B.

    python benchmarks/chat.py make DIRECTORY [--shards 3]
    python benchmarks/chat.py load DIRECTORY CONTENDER
    python benchmarks/chat.py speed DIRECTORY [CONTENDER ...] [--rows 8 --prompt 256] [--cpu]

`make` writes random weights in bfloat16. `load` loads them once and prints one line of JSON, with
the peak memory of the process less what it held before, in bytes. `speed` runs each contender in a
process of its own, by turns and `--repeats` times, and prints the median seconds of a prefill (a
call for one new token) and the tokens per second of the decode steps after it, each also as a
ratio to transformers of the same dtype. Programs are compiled before the clock starts. `--cpu`
counts seconds of the processor instead, for a machine with other work; set OMP_NUM_THREADS=1 then.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from loading import peak_memory

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 40960,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
DTYPES = ("float32", "bfloat16")
OURS = ("ours-torch", "ours-jax", "ours-tensorflow")


def shapes():
    """Name -> shape of the tensors of the checkpoint."""
    c = CONFIG
    width, inner, head = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    queries, keys = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    block = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    return {
        "model.embed_tokens.weight": (c["vocab_size"], width),
        **{
            f"model.layers.{i}.{name}.weight": shape
            for i in range(c["num_hidden_layers"])
            for name, shape in block.items()
        },
        "model.norm.weight": (width,),
    }


def make(directory, shards):
    """Writes the checkpoint: `model.safetensors`, or several files and their index."""
    import ml_dtypes

    from bert4keras_lite.checkpoints import save_checkpoint
    from bert4keras_lite.checkpoints.matching import LazyArrays

    def values(shape):
        random = np.random.default_rng(len(shape))
        array = random.standard_normal(shape, "float32") * np.float32(0.02)
        return np.ones(shape) if len(shape) == 1 else array

    names, directory = list(shapes()), Path(directory)
    files = {}
    for number, part in enumerate(np.array_split(names, shards), 1):
        file = f"model-{number:05d}-of-{shards:05d}.safetensors" if shards > 1 else ""
        file = file or "model.safetensors"
        functions = {str(name): partial(values, shapes()[name]) for name in part}
        arrays = LazyArrays(functions, np.dtype(ml_dtypes.bfloat16))
        save_checkpoint(directory / file, arrays, "safetensors")
        files |= dict.fromkeys(functions, file)
    (directory / "config.json").write_text(json.dumps(CONFIG, indent=1), "utf-8")
    if shards > 1:
        index = json.dumps({"metadata": {}, "weight_map": files})
        (directory / "model.safetensors.index.json").write_text(index, "utf-8")
    size = sum(path.stat().st_size for path in directory.iterdir())
    return {"bytes": size, "files": len(set(files.values()))}


# Each contender imports what it needs and returns a function that loads the model and returns one
# that generates: ids (rows, length) and a number of new tokens in, the new ids out.


def ours(directory, backend, dtype):
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    from bert4keras_lite import build_transformer_model, generate

    # what libraries import when they are first used is not the model's memory
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8}
    build_transformer_model(model="qwen3", **small, intermediate_size=8, with_lm=True, dtype=dtype)

    def load():
        model = build_transformer_model(directory, with_lm="linear", dtype=dtype)
        return lambda rows, new: [row[0].ids for row in generate(model, rows.tolist(), new)]

    return load


def transformers(directory, dtype):
    import torch
    from transformers import Qwen3ForCausalLM

    def load():
        model = Qwen3ForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))

        def write(rows, new):
            ids = torch.tensor(rows)
            options = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0}
            with torch.inference_mode():
                ids = model.generate(ids, **options, max_new_tokens=new, do_sample=False)
            return ids[:, rows.shape[1] :].numpy()

        return write

    return load


CONTENDERS = {
    **{f"{name}-{d}": (ours, name.removeprefix("ours-"), d) for name in OURS for d in DTYPES},
    **{f"transformers-{dtype}": (transformers, dtype) for dtype in DTYPES},
}


def load(directory, contender):
    """Peak memory and seconds of loading, and of the first prefill of 8 tokens after it."""
    prepare, *arguments = CONTENDERS[contender]
    load = prepare(directory, *arguments)
    before, start = peak_memory(), time.perf_counter()
    write = load()
    seconds, peak = time.perf_counter() - start, peak_memory() - before
    write(np.arange(1, 9)[None], 2)
    result = {"loading": peak, "seconds": seconds, "generating": peak_memory() - before}
    return {"contender": contender, **result}


def one_run(directory, contender, rows, prompt, new, clock):
    """Seconds of one prefill, and of a decode step; what is compiled is compiled before."""
    prepare, *arguments = CONTENDERS[contender]
    write = prepare(directory, *arguments)()
    ids = np.random.RandomState(0).randint(1, CONFIG["vocab_size"], (rows, prompt))

    def seconds(new):
        start = clock()
        count = np.shape(write(ids, new))
        if count != (rows, new):
            raise RuntimeError(f"{contender} wrote {count}, not {rows} x {new} tokens.")
        return clock() - start

    for _ in range(2):  # PyTorch's second call of a graph is still slower than all later ones
        seconds(2)
    prefill = seconds(1)
    return {"prefill": prefill, "step": (seconds(1 + new) - prefill) / new}


def speed(directory, contenders, rows, prompt, new, cpu, repeats):
    """Runs contenders by turns; prints the medians, and ratios to transformers."""
    results = {contender: [] for contender in contenders}
    numbers = {"--rows": rows, "--prompt": prompt, "--new": new}
    flags = [str(x) for pair in numbers.items() for x in pair] + ["--cpu"] * cpu
    for _ in range(repeats):
        for contender, runs in results.items():
            command = [sys.executable, __file__, "run", directory, contender, *flags]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[1:])}
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
            runs.append(json.loads(run.stdout.splitlines()[-1]))
    medians = {
        contender: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for contender, runs in results.items()
    }
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    print(
        f"{rows} x {prompt} tokens, {new} steps, {repeats} runs by turns, {threads} threads,"
        f" seconds of {'the processor' if cpu else 'the clock'}"
    )
    for contender, times in medians.items():
        peer = medians.get(f"transformers-{contender.rpartition('-')[2]}", times)
        print(
            f"{contender}: prefill {times['prefill']:.2f} s, of transformers' speed"
            f" {peer['prefill'] / times['prefill']:.2f}; {rows / times['step']:.2f} tokens/s,"
            f" of transformers' speed {peer['step'] / times['step']:.2f}"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["make", "load", "speed", "run"])
    parser.add_argument("directory")
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=", ".join(CONTENDERS))
    parser.add_argument("--shards", type=int, default=1, help="files that `make` writes")
    parser.add_argument("--rows", type=int, default=1, help="prompts in a batch")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=16, help="decode steps")
    parser.add_argument("--cpu", action="store_true", help="count seconds of the processor")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each contender")
    options = parser.parse_args()
    sizes = (options.rows, options.prompt, options.new)
    clock = time.process_time if options.cpu else time.perf_counter
    names = options.contenders or list(CONTENDERS)
    if options.what == "make":
        Path(options.directory).mkdir(parents=True, exist_ok=True)
        print(json.dumps(make(options.directory, options.shards)))
    elif options.what == "speed":
        speed(options.directory, names, *sizes, options.cpu, options.repeats)
    else:
        with contextlib.redirect_stdout(sys.stderr):
            run = load if options.what == "load" else one_run
            more = () if options.what == "load" else (*sizes, clock)
            result = run(options.directory, names[0], *more)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
