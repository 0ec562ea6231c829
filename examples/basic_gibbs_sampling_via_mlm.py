"""Lets BERT, which only fills in masks, write and rewrite: Gibbs sampling.

    python examples/basic_gibbs_sampling_via_mlm.py [--checkpoint DIR] [--text "这家店的菜很好吃。"]

DIR: a Chinese BERT (tiny-zh).

One character after the other is masked and drawn anew, so that the text wanders through what the
model takes for Chinese. The second part keeps the first half of the text as it is.
"""

import argparse

import numpy as np

from bert4keras_lite import build_transformer_model, gibbs_sample, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--text", default="这家饭店的菜特别好吃，服务员也很热情。")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh"

tokenizer = load_tokenizer(checkpoint)
model = build_transformer_model(checkpoint, with_mlm=True)
ids, _ = tokenizer.encode(args.text)
special = [i for i in range(tokenizer.vocab_size) if tokenizer.id_to_token(i).startswith("[")]
options = {"mask_id": tokenizer.token_mask_id, "forbidden_tokens": special, "top_k": 8}

rounds = len(ids) - 2  # every character once
print(f"given     {args.text}")
gibbs_sample(
    model,
    ids,
    steps=5 * rounds,
    temperature=0.8,
    seed=0,
    callback=lambda step, rows: (
        (step + 1) % rounds or print(f"round {(step + 1) // rounds}   {tokenizer.decode(rows[0])}")
    ),
    **options,
)
half = range(len(ids) // 2, len(ids) - 1)
rows = gibbs_sample(model, np.tile(ids, (4, 1)), 60, positions=list(half), seed=1, **options)
print("\nother second halves")
for row in rows:
    print("   ", tokenizer.decode(row))
