"""Fills in masked characters.

    python examples/basic_masked_language_model.py [--checkpoint DIR]
        [--text "中国的首都是[MASK]京。"]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
"""

import argparse

from bert4keras_lite import build_transformer_model, fill_mask, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
texts = args.text or [
    "中国的首都是[MASK]京。",
    "广东的省会是[MASK][MASK]。",
    "法国的首都是[MASK]黎。",
]

tokenizer = load_tokenizer(args.checkpoint)
model = build_transformer_model(args.checkpoint, with_mlm=True)

for text, masks in zip(texts, fill_mask(model, tokenizer, texts, top_k=5), strict=True):
    print(text)
    for candidates in masks:
        print("   ", "  ".join(f"{token} {probability:.2f}" for token, probability in candidates))
