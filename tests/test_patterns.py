"""Regular expressions of strangers: found as Python finds them, and never for long."""

import re

import keras
import numpy as np
import pytest

from bert4keras_lite import build_transformer_model, patterns
from bert4keras_lite.lora import enable_lora
from bert4keras_lite.optimizers import AdamW

pytestmark = pytest.mark.once

NAMES = ["block_0/attention/query/kernel", "block_11/ffn/input/bias", "Norm/gamma", "a" * 60 + "!"]
PATTERNS = [
    *(
        "norm",
        "^block_0/",
        r"block_(\d+)/",
        "kernel$",
        "(ffn|attention)/",
        r"block_\d{2}/",
        "",
        ".",
    ),
    *("(?i)NORM", "[^/]+/gamma", r"\bquery\b", "(?P<x>a)(?P=x)", "a*?!", "(a+)+!", re.escape("a!")),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("ignore_case", [False, True])
def test_names_are_found_as_by_python(pattern, ignore_case):
    flags = re.IGNORECASE if ignore_case else 0
    expected = [re.search(pattern, name, flags) is not None for name in NAMES]
    assert patterns.search("lazy", [pattern], NAMES, ignore_case) == [expected]


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", "[", "(?P<", "*", "(?R)", r"\L<x>", "(" * 5000, "a" * 1001, None, 5, b"a", ["a"]),
        *(
            "(((a{1000}){1000}){1000})",
            "a{1001}",
            "(a{2,}){501}",
            "a{,1001}",
            "b{0}(((a{1000}){1000}){1000})",
            "(?x)(((a{ 1000}){10 00}){1000 })",
            "a{%s}" % ("9" * 5000),
        ),
    ],
)
def test_what_is_no_expression_or_too_large(pattern):
    with pytest.raises(ValueError, match=r"lazy: .*: expected a regular expression \(") as caught:
        patterns.search("lazy", [pattern], NAMES)
    assert len(str(caught.value)) < 400


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.1)


SLOW = "(a|aa)+$"


def test_a_search_has_an_end(impatient):
    with pytest.raises(ValueError, match=r"lazy: '\(a\|aa\)\+\$': took more than 0.1 seconds, "):
        patterns.search("lazy", [SLOW], NAMES)


CLASSES = "(?i)" + "[!-\uff5e]" * 100  # Python looks at each character of a range


def test_many_expressions_do_not_take_longer_than_one(impatient):
    many = [f"{CLASSES}{i}" for i in range(100)]
    for check in (
        lambda: patterns.check_patterns("lazy", many),
        lambda: patterns.search("lazy", many, NAMES),
        lambda: AdamW(0.1, lr_multipliers=dict.fromkeys(many, 2.0)).build([keras.Variable(0.0)]),
    ):
        with pytest.raises(ValueError, match=r"took more than 0\.1 seconds, with those before it"):
            check()


@pytest.mark.parametrize(
    "options",
    [
        {"exclude_from_weight_decay": [SLOW], "weight_decay": 0.1},
        {"exclude_from_layer_adaptation": [SLOW], "layer_adaptation": True},
        {"lr_multipliers": {SLOW: 2.0}},
        {"lazy": [SLOW]},
    ],
)
def test_optimizers_do_not_wait(options, impatient):
    variable = keras.Variable(np.zeros(2), name="a" * 60 + "!")
    with pytest.raises(ValueError, match=r"took more than 0\.1 seconds"):
        AdamW(0.1, **options).build([variable])


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0, None, "fast", [1]])
def test_factors_of_rates_are_numbers(rate):
    variable = keras.Variable(np.zeros(2), name="kernel")
    with pytest.raises(ValueError, match=r"lr_multipliers: 'kernel'=.*: expected a number from 0"):
        AdamW(0.1, lr_multipliers={"kernel": rate}).build([variable])


def test_lora_does_not_wait(impatient):
    sizes = {"vocab_size": 9, "hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1}
    model = build_transformer_model(model="bert", num_hidden_layers=1, **sizes)
    with pytest.raises(ValueError, match=r"pattern: .* took more than 0\.1 seconds"):
        enable_lora(model, 2, pattern=r"(.|[^x]|[^y])+[^\w/]$")
