"""Directories that we write, in the hands of transformers: it loads them whole, numbers included.

Runs where transformers and PyTorch are installed; `make test` installs neither.
"""

import numpy as np
import pytest
from running import outputs_of
from test_classifiers import PAIRS
from test_classifiers import build as build_classifier
from test_families import ARCHITECTURES, build, inputs_of

from bert4keras_lite.configs.architectures import HUGGING_FACE


@pytest.fixture(scope="module")
def torch():
    """Imported here: collecting the tests need not wait for it."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers(torch):
    return pytest.importorskip("transformers")


HEADS = {
    "deberta_v2": {"with_lm": "linear", "convolution": 3},
    "bert": {"with_nsp": "linear", "with_lm": "linear"},
    "albert": {"with_nsp": "linear", "with_lm": "linear", "embedding_size": 16},
    "roformer": {"with_lm": "linear"},
    "ernie": {"with_nsp": "linear", "with_lm": "linear", "task_vocab_size": 3},
    "electra": {"with_discriminator": "linear", "embedding_size": 16},
    "electra_generator": {"with_lm": "linear", "embedding_size": 16},
}
NAMES = [
    name
    for name, row in ARCHITECTURES.items()
    if row["family"] in HUGGING_FACE
    and name != "nezha"  # transformers 5 dropped it
    and row.get("stacks", "both") == "both"
]


def visible(model, token_ids):
    """Our attention mask: it keeps the first column, but for RoBERTa, where 1 is padding."""
    padding = 1 if "roberta" in model.config.model_type else 0
    mask = (token_ids != padding).long()
    if padding == 0:
        mask[:, 0] = 1
    return mask


def theirs(torch, model, inputs, names):
    """The logits, in the order of our outputs."""
    arrays = dict(zip(names, (torch.tensor(x, dtype=torch.long) for x in inputs), strict=True))

    mask = visible(model, arrays["token_ids"])
    arguments = {"input_ids": arrays["token_ids"], "attention_mask": mask}
    if "segment_ids" in arrays:
        arguments["token_type_ids"] = arrays["segment_ids"]
    if "decoder_token_ids" in arrays:
        arguments["decoder_input_ids"] = arrays["decoder_token_ids"]
        arguments["decoder_attention_mask"] = visible(model, arrays["decoder_token_ids"])
    with torch.no_grad():
        found = model(**arguments)
    if hasattr(found, "prediction_logits"):
        order = (
            getattr(found, k, None)
            for k in ("seq_relationship_logits", "sop_logits", "prediction_logits")
        )
        return [y.numpy() for y in order if y is not None]
    logits = found.logits.numpy()
    return [logits[..., None] if logits.ndim == 2 else logits]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_what_we_write(name, torch, transformers, tmp_path):
    transformer = build(name, **HEADS.get(name, {"with_lm": "linear"}))
    transformer.save_checkpoint(tmp_path, "hf")
    kind = transformers.AutoConfig.from_pretrained(tmp_path).architectures[0]
    model, info = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert set(info["missing_keys"]) <= {"roformer.encoder.embed_positions.weight"}
    model.eval()
    inputs = inputs_of(transformer, padded=transformer.config.pad_token_id >= 0)
    names = [tensor.name for tensor in transformer.inputs]
    expected = theirs(torch, model, inputs, names)
    for ours, golden in zip(outputs_of(transformer.model, inputs), expected, strict=True):
        if name in ("deberta_v2", "modernbert"):  # the rows of padding see other tokens there
            is_token = inputs[0] != transformer.config.pad_token_id
            ours, golden = ours[is_token], golden[is_token]
        scale = max(1, np.abs(golden).max())
        np.testing.assert_allclose(ours, golden, atol=1e-5 * scale)


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "kind"), [(f, k) for f, k in PAIRS if f in HUGGING_FACE and f != "nezha"]
)
def test_transformers_reads_classifiers_that_we_write(family, kind, torch, transformers, tmp_path):
    transformer = build_classifier(family, kind, num_hidden_layers=2)
    transformer.save_checkpoint(tmp_path, "hf")
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    labels = transformer.config.labels
    assert labels is None or config.id2label == dict(enumerate(labels))
    cls = getattr(transformers, config.architectures[0])
    model, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    copies = {"transformer.encoder.embed_tokens.weight"}
    assert set(info["missing_keys"]) <= {"roformer.encoder.embed_positions.weight", *copies}
    model.eval()
    inputs = inputs_of(transformer)
    names = [tensor.name for tensor in transformer.inputs]
    arrays = dict(zip(names, (torch.tensor(x).long() for x in inputs), strict=True))
    mask = visible(model, arrays["token_ids"])
    given = {"input_ids": arrays["token_ids"]}
    if "gpt" not in family:
        given["attention_mask"] = mask
    if "segment_ids" in arrays:
        given["token_type_ids"] = arrays["segment_ids"]
    if kind == "choice":  # one in a row
        given = {name: array[:, None] for name, array in given.items()}
    with torch.no_grad():
        answer = model(**given)
    spans = [answer.start_logits, answer.end_logits] if kind == "spans" else None
    golden = (torch.stack(spans, -1) if spans else answer.logits).numpy()
    (ours,) = outputs_of(transformer.model, inputs)
    np.testing.assert_allclose(ours, golden, rtol=0, atol=1e-5 * np.abs(golden).max())
