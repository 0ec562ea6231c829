"""What the tests of pretraining share: the sample corpus of the examples and its vocabulary."""

from pathlib import Path

import pytest

from bert4keras_lite.tokenizers import Tokenizer

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"


@pytest.fixture(scope="session")
def vocab():
    return str(DATA / "vocab.txt")


@pytest.fixture(scope="session")
def tokenizer(vocab):
    return Tokenizer(vocab)


@pytest.fixture(scope="session")
def documents():
    """Real text, some of it in Latin letters: a list of strings."""
    paragraphs = (DATA / "corpus.txt").read_text("utf-8").split("\n\n")
    return [" ".join(text.split()) for text in paragraphs if text.strip()]
