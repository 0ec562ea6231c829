"""Fills in masked characters.

    python examples/basic_masked_language_model.py [--checkpoint DIR] [--text "中国的首都是[MASK]京。"]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
"""

import argparse

import numpy as np

from bert4keras_lite import build_transformer_model, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
texts = args.text or [
    "中国的首都是[MASK]京。",
    "广东的省会是[MASK][MASK]。",
    "法国的首都是[MASK]黎。",
]

tokenizer = load_tokenizer(args.checkpoint, special_tokens_in_text=True)
model = build_transformer_model(args.checkpoint, with_mlm=True)

for text in texts:
    token_ids, segment_ids = tokenizer.encode(text)
    probabilities = model.predict([np.array([token_ids]), np.array([segment_ids])], verbose=0)[0]
    print(text)
    for position in np.flatnonzero(np.equal(token_ids, tokenizer.token_mask_id)):
        best = probabilities[position].argsort()[::-1][:5]
        print(
            "   ",
            "  ".join(f"{tokenizer.id_to_token(i)} {probabilities[position, i]:.2f}" for i in best),
        )
