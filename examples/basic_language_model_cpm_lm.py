"""Few-shot generation with CPM-LM, the Chinese GPT-2 of 2.6 billion parameters.

    python examples/basic_language_model_cpm_lm.py [--checkpoint DIR] [--text "问题:..."]

--checkpoint: CPM-LM's files (https://github.com/TsinghuaAI/CPM-1-Generate); its tokenizer needs
    jieba and sentencepiece. Without it, tiny-zh-gpt2, which is too small to learn from examples,
    and continues other texts.
"""

import argparse

from bert4keras_lite import build_transformer_model, load_tokenizer, stream

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh-gpt2"
# the examples in the prompt show the model what is wanted; nothing is trained
examples = ["问题:中国的首都是哪里?\n答案:北京。\n问题:美国的首都是哪里?\n答案:"]
texts = args.text or (examples if args.checkpoint else ["周末天气", "老师", "小猫"])

tokenizer = load_tokenizer(checkpoint)
model = build_transformer_model(checkpoint, with_lm="linear")
# an answer ends with its line; WordPiece, which knows no newline, leaves its end token here
stop = tokenizer.encode("\n")[0][-1]
options = {"do_sample": True, "top_k": 5, "repetition_penalty": 1.1, "stop_ids": stop, "seed": 1}

for text in texts:
    print(text, end="", flush=True)
    for piece in stream(model, tokenizer, text, 60, **options):
        print(piece, end="", flush=True)
    print("\n")
