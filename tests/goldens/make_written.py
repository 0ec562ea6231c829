"""Makes `written.json`: directories that we write and that transformers loads, numbers included.

Each case is a small model with its heads (or with products of LoRA, which are merged), a model with
a classifier, or a tokenizer of
`make_tokenizers_files`, saved by this toolkit. Where transformers 5.23.0 and PyTorch are installed
beside it, transformers loads the directory, and must leave no array out, lack none, and compute
the same logits (to 1e-5 of the largest), or the same ids, segments and offsets of the lines of
`odd_lines.py`, as texts and as pairs; where the shared data sets are, of 1,000 real lines, too.

What was loaded is frozen: the config and a hash of each file. `make test` has no transformers, and
tests that the toolkit still writes exactly that.

    KERAS_BACKEND=torch python -m goldens.make_written [CASES]        # in tests

Left out are NEZHA, which transformers 5 dropped, and tokenizers of T5, of which it has other rules.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from running import outputs_of
from test_classifiers import PAIRS
from test_classifiers import build as build_classifier
from test_families import ARCHITECTURES, build, inputs_of

from bert4keras_lite import load_tokenizer
from bert4keras_lite.configs.architectures import HUGGING_FACE
from bert4keras_lite.lora import enable_lora

from .cpt_reference import reference
from .make_tokenizers_files import CASES as TOKENIZERS
from .make_tokenizers_files import GOLDEN as READ
from .make_tokenizers_files import (
    SHARED,
    Odd,
    Real,
    pairs_of,
    real_lines,
    without_lines,
    write_case,
)
from .odd_lines import LINES

GOLDEN = Path(__file__).resolve().parent / "written.json"
OPTIONS = {"deberta_v2": {"convolution": 3}}
# case -> name of the architecture, family and kind of classifier, or case of a tokenizer
MODELS = {
    name: name
    for name, row in ARCHITECTURES.items()
    if row["family"] in HUGGING_FACE and name != "nezha" and row.get("stacks", "both") == "both"
}
CLASSIFIERS = {
    f"{family} {kind}": (family, kind)
    for family, kind in PAIRS
    if family in HUGGING_FACE and family != "nezha"
}
SAVED = {f"tokenizer {case}": case for case, (by, _) in TOKENIZERS.items() if by == "5"}
ADAPTED = {f"{name} lora": name for name in ("bert", "llama", "mistral", "qwen2", "qwen3")}
CASES = MODELS | CLASSIFIERS | ADAPTED | SAVED

# Constants of transformers, and the copy of a tied array under a second name
NOT_IN_FILES = {
    "roformer.encoder.embed_positions.weight",
    "transformer.encoder.embed_tokens.weight",
    "model.encoder.embed_positions.weight",
    "model.decoder.embed_positions.weight",
}
# In these, padding sees other tokens than it does here
PADDING_DIFFERS = ("deberta_v2", "modernbert")


def write(case, folder):
    """Saves the model or tokenizer of a case, and returns it.

    Args:
        case: a key of `CASES`.
        folder: where to; it exists.
    """
    if case in SAVED:
        return write_tokenizer(SAVED[case], folder, Odd())
    if case in MODELS:
        model = build(case, **OPTIONS.get(case, {}))
    elif case in ADAPTED:
        model = adapted(ADAPTED[case])
    else:
        model = build_classifier(*CLASSIFIERS[case], num_hidden_layers=2)
    model.save_checkpoint(folder, "hf")
    return model


def adapted(name):
    """A model with products of LoRA, whose numbers are so round that all sums are the same."""
    model = build(name)
    enable_lora(model.model, 2)
    random = np.random.RandomState(0)
    for variable in model.model.trainable_variables:
        variable.assign(random.choice([-0.25, 0.25], variable.shape))
    return model


def write_tokenizer(case, folder, vocabularies):
    """Reads the directory of a case of `make_tokenizers_files`, and saves the tokenizer."""
    with tempfile.TemporaryDirectory() as source:
        write_case(source, case, vocabularies)
        is_wordpiece = Path(source, "vocab.txt").exists()
        rules = {"word_maxlen": 100, "drop_private_use": True} if is_wordpiece else {}
        tokenizer = load_tokenizer(source, special_tokens_in_text=True, **rules)
    tokenizer.save(folder)
    return tokenizer


def comparable(case, part, lines):
    """The lines of a part, empty where `tokenizers` cuts other pieces than sentencepiece."""
    differing = json.loads(READ.read_text("utf-8"))["differing"].get(case, {}).get(part, ())
    return without_lines(lines, differing)


def facts(folder):
    """The config of a directory, and a hash of each other file."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        content = path.read_bytes()
        is_config = path.name == "config.json"
        digest = hashlib.sha256(content).hexdigest()[:16]
        found[path.name] = json.loads(content) if is_config else digest
    return found


# References


def check_model(case, ours, folder):
    """Holds that transformers loads a model, and computes what ours does."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    labels = ours.config.labels
    assert labels is None or config.id2label == dict(enumerate(labels))
    model, info = reference(config.architectures[0]).from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert set(info["missing_keys"]) <= NOT_IN_FILES, info
    padding = ours.config.pad_token_id
    inputs = inputs_of(ours, padded=padding >= 0 or ours.config.filler_id is not None)
    with torch.no_grad():
        answer = model.eval()(**arguments(case, ours, inputs))
    for logits, expected in zip(outputs_of(ours.model, inputs), outputs(answer), strict=True):
        if case.split()[0] in PADDING_DIFFERS and logits.ndim == 3:
            is_token = inputs[0] != padding
            logits, expected = logits[is_token], expected[is_token]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            logits.reshape(expected.shape), expected, rtol=0, atol=1e-5 * scale
        )


def arguments(case, ours, inputs):
    """What transformers gets for our inputs."""
    import torch

    names = {
        "token_ids": "input_ids",
        "segment_ids": "token_type_ids",
        "decoder_token_ids": "decoder_input_ids",
    }
    given = {
        names[tensor.name]: torch.tensor(array).long()
        for tensor, array in zip(ours.inputs, inputs, strict=True)
    }
    for ids, mask in (
        ("input_ids", "attention_mask"),
        ("decoder_input_ids", "decoder_attention_mask"),
    ):
        if ids in given:
            given[mask] = (given[ids] != ours.config.pad_token_id).long()
    if case.endswith(" choice"):  # one in a row
        given = {name: array[:, None] for name, array in given.items()}
    return given


def outputs(answer):
    """The logits of transformers, in the order of our outputs."""
    import torch

    if "start_logits" in answer:
        return [torch.stack([answer.start_logits, answer.end_logits], -1).numpy()]
    names = ("seq_relationship_logits", "sop_logits", "prediction_logits", "logits")
    return [answer[name].numpy() for name in names if name in answer]


def check_tokenizer(ours, folder, lines):
    """Holds that `AutoTokenizer` loads a tokenizer, and reads texts and pairs as ours does."""
    import transformers

    reference = transformers.AutoTokenizer.from_pretrained(folder)
    for texts in ([(line,) for line in lines], pairs_of(lines)):
        columns = map(list, zip(*texts, strict=True))
        found = reference(*columns, return_offsets_mapping=True, return_token_type_ids=True)
        rows = zip(found.input_ids, found.token_type_ids, found.offset_mapping, strict=True)
        for text, row in zip(texts, rows, strict=True):
            assert ours.encode(*text, return_offsets=True) == row, text


def check(case, folder):
    """Writes a case, and holds that transformers reads in it what we do."""
    ours = write(case, folder)
    if case not in SAVED:
        check_model(case, ours, folder)
        return
    check_tokenizer(ours, folder, comparable(SAVED[case], "odd", LINES))
    if SHARED.exists():
        with tempfile.TemporaryDirectory() as real:
            ours = write_tokenizer(SAVED[case], real, Real())
            check_tokenizer(ours, real, comparable(SAVED[case], "real", real_lines())[::10])


if __name__ == "__main__":
    golden = json.loads(GOLDEN.read_text("utf-8")) if GOLDEN.exists() else {}
    for case in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            check(case, folder)
            golden[case] = facts(folder)
        print(case, flush=True)
    rows = (f"{json.dumps(c)}: {json.dumps(golden[c])}" for c in CASES if c in golden)
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")
