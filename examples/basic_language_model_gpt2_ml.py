"""Continues texts by sampling with GPT2-ML, the Chinese GPT-2 of 1.5 billion parameters.

    python examples/basic_language_model_gpt2_ml.py [--checkpoint DIR] [--text "今天天气不错"]

--checkpoint: config, checkpoint and vocabulary of GPT2-ML (https://github.com/imcaspar/gpt2-ml).
    Without it, tiny-zh-gpt2.
"""

import argparse

from bert4keras_lite import build_transformer_model, generate_text, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh-gpt2"
texts = args.text or ["这家饭店", "明天气温", "从前"]

# GPT2-ML was trained on bare text: no [CLS] before it, no [SEP] after it; ours has both
options = {"token_start": None, "token_end": None} if args.checkpoint else {}
tokenizer = load_tokenizer(checkpoint, **options)
model = build_transformer_model(checkpoint, with_lm="linear")

# the texts go through the model together; each gets three endings
endings = generate_text(
    model,
    tokenizer,
    texts,
    max_new_tokens=60,
    min_new_tokens=10,
    stop_ids=tokenizer.token_to_id("。"),
    do_sample=True,
    top_p=0.9,
    temperature=0.8,
    num_return_sequences=3,
    seed=0,
)
for text, row in zip(texts, endings, strict=True):
    print(text)
    for ending in row:
        print(f"  {ending.score:7.1f}  …{ending.text}{'。' if ending.finished else ''}")
