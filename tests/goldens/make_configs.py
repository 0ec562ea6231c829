"""Freezes which keys transformers reads in the `config.json` of a family, with their defaults.

    pip install transformers==5.23.0 && python tests/goldens/make_configs.py
    pip install transformers==4.49.0 && python tests/goldens/make_configs.py nezha

NEZHA left transformers in version 5: the second command adds it from an older one.
"""

import argparse
import importlib
import inspect
import json
from pathlib import Path

FILE = Path(__file__).with_name("hf_keys.json")
FAMILIES = [
    "albert",
    "bart",
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "eurobert",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt2",
    "gte",
    "llama",
    "megatron-bert",
    "mistral",
    "modernbert",
    "mt5",
    "openai-gpt",
    "pegasus",
    "qwen2",
    "qwen3",
    "roberta",
    "roformer",
    "t5",
    "xlm-roberta",
]
# keys of older versions that the constructor takes, and the attribute that they change
OLDER = {
    "modernbert": {
        "global_attn_every_n_layers": "layer_types",
        "global_rope_theta": "rope_parameters",
        "local_rope_theta": "rope_parameters",
    },
    "eurobert": {"rope_theta": "rope_parameters"},
    "gemma3_text": {
        "rope_local_base_freq": "rope_parameters",
        "rope_theta": "rope_parameters",
        "sliding_window_pattern": "layer_types",
    },
    **{
        name: {"partial_rotary_factor": "rope_parameters", "rope_theta": "rope_parameters"}
        for name in ("glm", "glm4")
    },
    **{
        name: {"rope_theta": "rope_parameters"}
        for name in ("gte", "llama", "mistral", "qwen2", "qwen3")
    },
}
# keys that the code of the model reads, and its default, which the constructor does not know
READ_BY_THE_MODEL = {
    "qwen2": {"head_dim": None},
    "deberta-v2": {
        "attention_head_size": None,
        "conv_act": "tanh",
        "conv_kernel_size": 0,
        "norm_rel_ebd": "none",
        "position_buckets": -1,
        "share_att_key": False,
    },
}


def main(names):
    import transformers

    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in names:
        config = transformers.AutoConfig.for_model(name)
        defaults = config.to_dict()
        # one attribute under two names: a file may have either
        aliases = {k: v for k, v in config.attribute_map.items() if k not in defaults}
        for key, attribute in OLDER.get(name, {}).items():
            changed = transformers.AutoConfig.for_model(name, **{key: 1}).to_dict()
            assert changed[attribute] != defaults[attribute], key
            aliases[key] = attribute
        model = transformers.AutoModel._model_mapping[type(config)]
        source = inspect.getsource(importlib.import_module(model.__module__))
        for key, default in READ_BY_THE_MODEL.get(name, {}).items():
            assert f'getattr(config, "{key}", ' in source, key
            defaults[key] = default
        known[name] = {
            "transformers": transformers.__version__,
            "defaults": {k: v for k, v in sorted(defaults.items()) if "version" not in k},
            "aliases": dict(sorted(aliases.items())),
        }
    lines = (f"  {json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known))
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", default=FAMILIES)
    main(parser.parse_args().families)
