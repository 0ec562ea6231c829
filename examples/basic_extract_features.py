"""Token vectors of a text, and the distance between sentences.

    python examples/basic_extract_features.py [--checkpoint DIR]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
"""

import argparse

import numpy as np

from bert4keras_lite import build_transformer_model, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
checkpoint = parser.parse_args().checkpoint

tokenizer = load_tokenizer(checkpoint)
bert = build_transformer_model(checkpoint)

token_ids, segment_ids = tokenizer.encode("语言模型")
vectors = bert.predict([np.array([token_ids]), np.array([segment_ids])], verbose=0)
print(f"语言模型: {vectors.shape[1]} tokens, {vectors.shape[2]} numbers each")
print(vectors[0].round(3), end="\n\n")

# a simple sentence vector: the mean of the tokens, without padding
sentences = ["房间很干净，住得很舒服。", "酒店的卫生不错，睡得也香。", "手机电池一天要充三次电。"]
token_ids, segment_ids = tokenizer.encode_batch(sentences)
vectors = bert.predict([token_ids, segment_ids], verbose=0)
present = (token_ids != 0)[..., None]
means = (vectors * present).sum(axis=1) / present.sum(axis=1)
means /= np.linalg.norm(means, axis=1, keepdims=True)
for sentence, similarities in zip(sentences, means @ means.T, strict=True):
    print(" ".join(f"{s:6.3f}" for s in similarities), sentence)
