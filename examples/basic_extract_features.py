"""Token vectors of a text, and the distance between sentences.

    python examples/basic_extract_features.py [--checkpoint DIR]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
"""

import argparse

import numpy as np

from bert4keras_lite import build_transformer_model, extract_features, load_tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
checkpoint = parser.parse_args().checkpoint

tokenizer = load_tokenizer(checkpoint)
bert = build_transformer_model(checkpoint)

vectors = extract_features(bert, tokenizer, "语言模型", pooling=None)
print(f"语言模型: {vectors.shape[0]} tokens, {vectors.shape[1]} numbers each")
print(vectors.round(3), end="\n\n")

# a plain sentence vector: the mean over the tokens of the text
sentences = ["房间很干净，住得很舒服。", "酒店的卫生不错，睡得也香。", "手机电池一天要充三次电。"]
means = extract_features(bert, tokenizer, sentences, pooling="mean")
means /= np.linalg.norm(means, axis=1, keepdims=True)
for sentence, similarities in zip(sentences, means @ means.T, strict=True):
    print(" ".join(f"{s:6.3f}" for s in similarities), sentence)
