"""Generates and rewrites text with a BERT, which only fills masks: Gibbs sampling.

    python examples/basic_gibbs_sampling_via_mlm.py [--checkpoint DIR] [--text "这家店的菜很好吃。"]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.

One character after the other is masked and sampled again, so that the text moves through what the
model considers likely. The second part keeps the first half of the text.
"""

import argparse

import numpy as np

from bert4keras_lite import build_transformer_model, gibbs_sample, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--text", default="这家饭店的菜特别好吃，服务员也很热情。")
args = parser.parse_args()

tokenizer = load_tokenizer(args.checkpoint)
model = build_transformer_model(args.checkpoint, with_mlm=True)
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
