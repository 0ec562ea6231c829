"""Lets a BERT-like body write under `application="lm"`: NEZHA-GEN, trained like a GPT.

    python examples/basic_language_model_nezha_gen_gpt.py [--checkpoint DIR] [--text "北京"]

DIR: config, checkpoint and vocabulary of NEZHA-GEN. In spite of its name its body is BERT's, with
learned positions, and it was trained without segments, hence `segment_vocab_size=0`. Without a
checkpoint, tiny-zh-gpt2, which writes in any case.
"""

import argparse

from bert4keras_lite import build_transformer_model, generate_text, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh-gpt2"
texts = args.text or ["北京", "周末", "老师"]

tokenizer = load_tokenizer(checkpoint)
model = build_transformer_model(
    checkpoint, application="lm", segment_vocab_size=0, with_lm="linear"
)

# the same text under two searches: the most likely words one by one, or the most likely text
for text in texts:
    (greedy,) = generate_text(model, tokenizer, text, 50)
    best = generate_text(
        model, tokenizer, text, 50, num_beams=5, num_return_sequences=2, repetition_penalty=1.2
    )
    print(f"{text}\n  greedy  …{greedy.text}")
    for one in best:
        print(f"  beams   …{one.text}")
