"""Fills gaps of any length with T5, or answers from a list.

    python examples/basic_text_generation_t5.py [--checkpoint DIR]
        [--text "中国的首都是 <extra_id_0>"]

--checkpoint: a T5 or mT5 as published by Google or Hugging Face, with its sentencepiece model; a
    gap is <extra_id_0>, after a space. Without it, a small T5 is trained first, which continues
    texts: there the gap is always at the end.
"""

import argparse

from small_t5 import small_t5

from bert4keras_lite import build_transformer_model, generate_text, load_tokenizer
from bert4keras_lite.generation import Trie

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
checkpoint = args.checkpoint or small_t5()
gap = " <extra_id_0>" if args.checkpoint else ""
texts = args.text or [
    f"这家饭店的{gap}",
    f"法国的首都是{gap}",
    f"黄瓜洗净，{gap}",
]

tokenizer = load_tokenizer(checkpoint)
model = build_transformer_model(checkpoint, with_lm="linear")

answers = generate_text(
    model, tokenizer, texts, max_new_tokens=20, num_beams=4, num_return_sequences=3
)
for text, beams in zip(texts, answers, strict=True):
    print(text)
    for beam in beams:
        print(f"  {beam.score:6.2f}  {beam.text}")

# the same, but only these can be generated
names = ["巴黎", "伦敦", "东京", "罗马"]
# T5 repeats the sentinel before what belongs there; the small model does not
answers = [f"{gap}{name}" if args.checkpoint else name for name in names]
rows = [tokenizer.encode(text)[0] for text in answers]
trie = Trie([row if tokenizer.token_start is None else row[1:] for row in rows])
beams = generate_text(
    model,
    tokenizer,
    f"法国的首都是{gap}",
    max_new_tokens=20,
    num_beams=4,
    num_return_sequences=4,
    allowed_tokens=trie,
)
print(f"法国的首都是{gap} ({'、'.join(names)})")
for beam in beams:
    print(f"  {beam.score:6.2f}  {beam.text}")
