"""One epoch of ChnSentiCorp: batches of similar lengths against batches padded to their longest.

    python benchmarks/epoch.py "bucketed" | "padded to the longest"

A tiny BERT (2 layers, 128 wide), at most 256 tokens, batch 32, on the default backend. The
reviews are read from ../shared/data/chnsenticorp beside the repository; without it, the sample
reviews of examples/data are used, which are short and all alike, so the gain is smaller.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

from bert4keras_lite import Tokenizer, build_transformer_model
from bert4keras_lite.data import Batches, read_tsv

ROOT = Path(__file__).resolve().parents[1]
MAXLEN, BATCH = 256, 32


def samples():
    path = ROOT.parent / "shared/data/chnsenticorp/train.tsv"
    vocab = ROOT.parent / "shared/tokenizers/bert_chinese_vocab/vocab.txt"
    if path.is_file():
        rows = [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
    else:
        vocab = ROOT / "examples/data/vocab.txt"
        rows = read_tsv(ROOT / "examples/data/sentiment.train.tsv")
    tokenizer = Tokenizer(vocab)
    return tokenizer, [(tokenizer.encode(text, maxlen=MAXLEN), label) for text, label in rows]


def main(contender):
    tokenizer, data = samples()
    batches = Batches(
        data, BATCH, shuffle=True, seed=1, buckets=8 if contender == "bucketed" else None
    )
    bert = build_transformer_model(
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        dropout_rate=0.1,
        attention_dropout_rate=0.1,
    )
    model = keras.Model(bert.inputs, keras.layers.Dense(2)(bert.output[:, 0]))
    model.compile(
        keras.optimizers.AdamW(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # with it, every new length costs the padded batches a compilation
    )
    model.train_on_batch(*batches[0])
    start = time.perf_counter()
    model.fit(batches, epochs=1, verbose=0)
    print(
        json.dumps(
            {
                "contender": contender,
                "seconds": time.perf_counter() - start,
                "tokens": int(batches.num_tokens),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
