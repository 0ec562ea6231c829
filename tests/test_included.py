"""The models that come with the toolkit: they are found by name, and know some Chinese."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert4keras_lite import build_transformer_model, load_tokenizer, open_checkpoint
from bert4keras_lite.hub import INCLUDED, included, local_directory

NAMES = ["tiny-zh", "tiny-zh-gpt2"]


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        assert included(name) == local_directory(name) == INCLUDED / name
        assert local_directory(Path(name)) == Path(name)  # a path is a path
        Path(name).mkdir()
        assert included(name) is None and local_directory(name) == name  # what is there goes first
    for other in (
        "",
        ".",
        "..",
        "tiny-zh/",
        "tiny-zh/vocab.txt",
        "../included/tiny-zh",
        "tiny",
        None,
    ):
        assert included(other) is None


@pytest.mark.parametrize("name", NAMES)
def test_files(name):
    folder = INCLUDED / name
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}
    assert (folder / "model.safetensors").stat().st_size < 12e6
    checkpoint = open_checkpoint(folder)
    assert {str(checkpoint.dtype(name)) for name in checkpoint} == {"float16"}
    assert load_tokenizer(name).vocab_size == 7000


@pytest.mark.once
def test_they_are_part_of_a_package(tmp_path):
    root = Path(__file__).resolve().parents[1]
    command = ["setup.py", "--quiet", "build_py", "--build-lib", tmp_path / "lib"]
    subprocess.run([sys.executable, *command], cwd=root, check=True, capture_output=True)
    for name in NAMES:
        built = {path.name for path in (tmp_path / "lib/bert4keras_lite/included" / name).iterdir()}
        assert built == {path.name for path in (INCLUDED / name).iterdir()}
    assert (tmp_path / "lib/bert4keras_lite/included/NOTICE.txt").is_file()


def test_the_encoder_fills_masks():
    tokenizer = load_tokenizer("tiny-zh", special_tokens_in_text=True)
    model = build_transformer_model("tiny-zh", with_mlm=True)
    assert model.output_shape[-1] == tokenizer.vocab_size
    found = 0
    for text, hidden in [
        ("中华人民[MASK]和国", "共"),
        ("他高兴得跳了[MASK]来。", "起"),
        ("任何单位和个[MASK]不得侵犯公民的合法权益。", "人"),
        ("床前明[MASK]光", "月"),
        ("[MASK]什么要这样做呢？", "为"),
        ("太阳从东边升起[MASK]了。", "来"),
    ]:
        ids, segments = tokenizer.encode(text)
        probabilities = model.predict([np.array([ids]), np.array([segments])], verbose=0)[0]
        guess = probabilities[ids.index(tokenizer.token_mask_id)].argmax()
        found += tokenizer.id_to_token(guess) == hidden
    assert found >= 4


def test_the_decoder_expects_what_follows():
    """Less surprised by a sentence than by the same characters in another order."""
    tokenizer = load_tokenizer("tiny-zh-gpt2")
    model = build_transformer_model("tiny-zh-gpt2", with_lm="linear")

    def surprise(text):
        ids = np.array([tokenizer.encode(text)[0]])
        logits = np.asarray(model.predict(ids, verbose=0)[0, :-1], "float64")
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return -np.mean(logits[np.arange(len(logits)), ids[0, 1:]])

    for text in ["天已经黑了，孩子们还在院子里玩。", "公民的合法权益受法律保护。"]:
        orders = np.random.default_rng(0)
        others = ["".join(orders.permutation(list(text))) for _ in range(3)]
        assert surprise(text) + 1 < min(map(surprise, others))
