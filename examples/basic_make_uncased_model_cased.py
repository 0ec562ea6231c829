"""Makes a cased model from an uncased one.

    python examples/basic_make_uncased_model_cased.py [--checkpoint DIR]
        [--text "Welcome to BEIJING."]

Every English token gets a capitalized copy, and one in upper case, whose vectors start as copies of
its own (`compound_tokens`). So the new model starts with the outputs of the old one; what capitals
mean is learned in fine-tuning. The model is saved to examples/output/cased, in the published form.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
"""

import argparse

import numpy as np
from sample import OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--text", default="欢迎来到北京，Welcome to BEIJING.")
args = parser.parse_args()

uncased = load_tokenizer(args.checkpoint)
old_dict = uncased.token_dict
# capitals in an uncased vocabulary never occurred in training: their rows are useless
kept = [token for token in old_dict if not (token.isalpha() and token != token.lower())]
keep_tokens = [old_dict[token] for token in kept]

new_dict = {token: i for i, token in enumerate(kept)}
compound_tokens = []  # for each new row, the rows (of those kept) that it is the average of
for i, token in enumerate(kept):
    if token.isascii() and token.removeprefix("##").isalpha():
        for twin in (token.capitalize(), token.upper()):
            if twin not in new_dict:
                new_dict[twin] = len(new_dict)
                compound_tokens.append([i])
print(f"{len(old_dict)} tokens, {len(kept)} kept, {len(compound_tokens)} new")

cased = uncased.with_vocabulary(new_dict, do_lower_case=False, strip_accents=False)
transformer = build_transformer_model(
    args.checkpoint,
    keep_tokens=keep_tokens,
    compound_tokens=compound_tokens,
    return_keras_model=False,
)
transformer.save_checkpoint(OUTPUT / "cased", vocab=cased)

models = {uncased: build_transformer_model(args.checkpoint), cased: transformer.model}
vectors = []
for tokenizer, model in models.items():
    print(" ".join(tokenizer.tokenize(args.text)))
    token_ids, segment_ids = tokenizer.encode(args.text)
    vectors.append(model.predict([np.array([token_ids]), np.array([segment_ids])], verbose=0))
difference = np.abs(vectors[0] - vectors[1]).max()
print(f"largest difference of their vectors: {difference:.1e}")
