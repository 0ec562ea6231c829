"""Generates with a BERT-like model and `application="lm"`: NEZHA-GEN, trained like a GPT.

    python examples/basic_language_model_nezha_gen_gpt.py [--checkpoint DIR] [--text "北京"]

--checkpoint: config, checkpoint and vocabulary of NEZHA-GEN. In spite of its name its graph is
    BERT's, with learned positions, and it was trained without segments, hence
    `segment_vocab_size=0`. Without it, tiny-zh-gpt2.
"""

import argparse

from bert4keras_lite import build_transformer_model, generate_text, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh-gpt2")
parser.add_argument("--text", nargs="*")
args = parser.parse_args()
texts = args.text or ["北京", "周末", "老师"]

tokenizer = load_tokenizer(args.checkpoint)
model = build_transformer_model(
    args.checkpoint, application="lm", segment_vocab_size=0, with_lm="linear"
)

# two searches: the most likely token each time, or the most likely text
for text in texts:
    (greedy,) = generate_text(model, tokenizer, text, 50)
    best = generate_text(
        model, tokenizer, text, 50, num_beams=5, num_return_sequences=2, repetition_penalty=1.2
    )
    print(f"{text}\n  greedy  …{greedy.text}")
    for beam in best:
        print(f"  beams   …{beam.text}")
