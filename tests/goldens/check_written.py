"""Has bert4keras 0.11.5 read TensorFlow checkpoints that we write, and compares the outputs.

Two environments, two commands (see README.md for bert4keras'):

    python tests/goldens/check_written.py write DIRECTORY
    TF_USE_LEGACY_KERAS=1 TF_KERAS=1 python tests/goldens/check_written.py read DIRECTORY

The first writes a checkpoint of each family with what we compute on some inputs; the second
prints a table of differences, and fails if one is above 1e-5 of the output's scale.
"""

import json
import sys
from pathlib import Path

import numpy as np

# what bert4keras calls our options, where it has others
MODELS = {
    "bert": {"with_mlm": "linear", "with_nsp": "linear"},
    "albert": {"with_mlm": "linear"},
    "nezha": {"with_mlm": "linear"},
    "roformer": {"with_mlm": "linear"},
    "roformer_v2": {"with_mlm": "linear"},
    "electra": {"with_discriminator": "linear"},
    "gpt": {"final_activation": "linear"},
    "gpt2": {"final_activation": "linear"},
    "gpt2_ml": {"final_activation": "linear"},
    "t5.1.0": {"with_lm": "linear", "cross_position_bias": False},
    "t5.1.1": {"with_lm": "linear", "cross_position_bias": False},
    "t5_pegasus": {"with_lm": "linear"},
}
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position": 40,
}


def write(directory):
    root = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(root), str(root.parent)]
    from running import outputs_of
    from test_families import build, inputs_of

    for name, options in MODELS.items():
        ours = {
            key: value
            for key, value in options.items()
            if key not in ("final_activation", "cross_position_bias")
        }
        # bert4keras rescales the untied head of T5 1.1, as T5-PEGASUS wants it
        ours |= {"scale_decoder_outputs": True} if name == "t5.1.1" else {}
        if name in ("gpt", "gpt2", "gpt2_ml"):
            ours = {"with_lm": "linear", "hidden_act": "gelu_erf"}
        if name == "gpt":
            ours["norm_epsilon"] = 1e-12  # all that bert4keras knows there
        transformer = build(name, **({"with_nsp": False, "with_pool": False} | ours))
        transformer.save_checkpoint(directory / name)
        inputs = inputs_of(transformer)
        arrays = {f"input_{i}": x for i, x in enumerate(inputs)}
        arrays |= {f"output_{i}": y for i, y in enumerate(outputs_of(transformer.model, inputs))}
        np.savez(directory / name / "run.npz", **arrays)


def read(directory):
    from bert4keras.models import build_transformer_model

    worst = 0.0
    print("| family | max abs diff | std |\n|---|---|---|")
    for name, options in MODELS.items():
        folder = directory / name
        config = next(folder.glob("*config.json"))
        checkpoint = next(folder.glob("*.index")).with_suffix("")
        values = json.loads(config.read_text())
        # bert4keras' own spelling of two keys
        if name.startswith("t5") and name != "t5.1.0":
            values["hidden_act"] = (
                ["gelu", "linear"] if name == "t5_pegasus" else ["gelu_tanh", "linear"]
            )
        if name in ("gpt", "gpt2", "gpt2_ml"):
            values["hidden_act"] = "gelu"
        if values.get("hidden_act") == ["gelu_tanh", "linear"]:
            from bert4keras.backend import gelu_tanh, keras

            keras.utils.get_custom_objects()["gelu_tanh"] = gelu_tanh
        config.write_text(json.dumps(values))
        model = build_transformer_model(
            str(config),
            str(checkpoint),
            model={"t5_pegasus": "mt5.1.1"}.get(name, name),
            **options,
        )
        with np.load(folder / "run.npz") as file:
            arrays = dict(file)
        inputs = [arrays[k] for k in sorted(arrays) if k.startswith("input")]
        expected = [arrays[k] for k in sorted(arrays) if k.startswith("output")]
        found = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
        found = found if isinstance(found, list) else [found]
        if name == "bert":  # its next-sentence head is a softmax
            found[0] = np.log(found[0])
            expected[0] = expected[0] - np.log(np.exp(expected[0]).sum(-1, keepdims=True))
        visible = inputs[-1 if name.startswith("t5") else 0] != 0
        for ours, golden in zip(expected, found, strict=True):
            if ours.ndim == 3:
                ours, golden = ours[visible], golden[visible]
            difference = np.abs(ours - golden).max()
            worst = max(worst, difference / max(1, np.abs(golden).max()))
            print(f"| {name} | {difference:.1e} | {golden.std():.2f} |")
    assert worst < 1e-5, worst


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
