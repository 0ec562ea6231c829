"""Freeze what others write with the models of the golden cases: tokens and scores.

    python make_generation.py transformers [MODELS]     # with transformers 5.23 and torch; for CPT,
                                                        # see cpt_reference.py
    TF_KERAS=1 TF_USE_LEGACY_KERAS=1 python make_generation.py bert4keras

Prompts go in one by one, without padding. Every choice is decided by more than `MARGIN`: the
runs are repeated in float64 (transformers) and must give the same tokens. With names of `MODELS`,
only their runs are replaced.
"""

import itertools
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from cpt_reference import reference
from recipes import FOLDER, load_cases, scores_after

NEW = 12
BEAMS = {"num_beams": 4}
# name -> folder of the case, its name, the class, options beyond the case's own
MODELS = {
    "gpt2": ("decoders", "hf_gpt2", "GPT2LMHeadModel", {}),
    "t5.1.0": ("decoders", "hf_t5", "T5ForConditionalGeneration", {}),
    "t5.1.1": ("decoders", "hf_t5.1.1", "T5ForConditionalGeneration", {}),
    "mt5": ("decoders", "hf_mt5", "MT5ForConditionalGeneration", {}),
    "bart": ("decoders", "hf_bart", "BartForConditionalGeneration", {"forced_start_id": 7}),
    "pegasus": ("decoders", "hf_pegasus", "PegasusForConditionalGeneration", {}),
    "cpt": ("decoders", "hf_cpt", "CPTForConditionalGeneration", {}),
    # as the authors' `generate` has it
    "cpt_0": ("decoders", "hf_cpt", "CPTForConditionalGeneration", {"fixed_segment": 0}),
    "qwen3": ("decoders", "qwen3", "Qwen3ForCausalLM", {}),
    "mistral": ("decoders", "mistral", "MistralForCausalLM", {}),
    "glm": ("decoders", "glm", "GlmForCausalLM", {}),
    "glm4": ("decoders", "glm4", "Glm4ForCausalLM", {}),
    "gemma3": ("decoders", "gemma3", "Gemma3ForCausalLM", {}),
    "bert": ("bert", "hf_lm", "BertLMHeadModel", {}),
}
ARGUMENTS = [
    {},
    {"repetition_penalty": 1.3},
    {"min_new_tokens": 6},
    BEAMS,
    BEAMS | {"num_return_sequences": 3, "length_penalty": 0.6, "early_stopping": True},
    BEAMS | {"num_return_sequences": 4, "length_penalty": 2.0, "early_stopping": "never"},
    BEAMS | {"length_penalty": 0.0},
    BEAMS | {"repetition_penalty": 1.3, "min_new_tokens": 4},
    {"num_beams": 3, "length_penalty": -1.0},
]


def forbidding(inputs, rows):
    """Arguments that forbid some of the tokens that a model gives without them.

    Args:
        inputs: the prompts.
        rows: the new tokens of each.
    """
    words = [rows[0][:1], rows[1][:2], rows[2][1:4], [inputs[3][-1], rows[3][0]], [9, 9, 9]]
    suppressed = {"suppress_tokens": rows[3][1:2], "begin_suppress_tokens": rows[2][:1]}
    return [
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": words} | suppressed,
        {"no_repeat_ngram_size": 3, "repetition_penalty": 1.2} | BEAMS,
        # 0 pads: where beams generate it, transformers' T5 attends to it, and the toolkit does not
        {"bad_words_ids": [*words, [0]], "no_repeat_ngram_size": 2, "num_return_sequences": 2}
        | BEAMS,
        {"min_new_tokens": 5, "no_repeat_ngram_size": 1} | suppressed | BEAMS,
    ]


def prompts(vocab_size):
    random = np.random.RandomState(0)
    return [random.randint(1, vocab_size, n).tolist() for n in (5, 1, 9, 7)]


def write(model, prompt, arguments, stop_ids):
    """New tokens and score of each sequence that transformers returns."""
    import torch

    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=NEW,
        do_sample=False,
        use_cache=False,  # whose length is taken from the encoder
        eos_token_id=stop_ids,
        pad_token_id=0,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
        **arguments,
    )
    begin = 1 if model.config.is_encoder_decoder else len(prompt)
    rows = out.sequences[:, begin:].tolist()
    if "sequences_scores" in out:
        scores = out.sequences_scores.tolist()
    else:  # greedy: what the model itself thinks of its tokens
        logs = [torch.log_softmax(step[0].double(), -1) for step in out.logits]
        scores = [float(sum(log[token] for log, token in zip(logs, rows[0], strict=True)))]
    found = []
    for row, score in zip(rows, scores, strict=True):
        end = next((i for i, token in enumerate(row) if token in stop_ids), None)
        found.append([row if end is None else row[:end], round(score, 6), end is not None])
    return found


def run_transformers(*names):
    import torch
    import transformers
    from safetensors.numpy import save_file

    old = json.loads((FOLDER / "generation_transformers.json").read_text(encoding="utf-8"))["runs"]
    runs = [run for run in old if names and run["name"] not in names]
    for name in names or MODELS:
        folder, case_name, class_name, options = MODELS[name]
        case = next(c for c in load_cases(FOLDER / folder) if c.name == case_name)
        with tempfile.TemporaryDirectory() as directory:
            config = case.config | ({"is_decoder": True} if name == "bert" else {})
            (Path(directory) / "config.json").write_text(json.dumps(config))
            state = {k: np.ascontiguousarray(v) for k, v in case.weights.items()}
            save_file(state, Path(directory) / "model.safetensors", {"format": "pt"})
            model = reference(class_name, options.get("fixed_segment", 1)).from_pretrained(
                directory, attn_implementation="eager", dtype=torch.float32
            )
        forced = case.config.get("forced_eos_token_id")
        model.eval().generation_config = transformers.GenerationConfig(
            decoder_start_token_id=0,
            forced_bos_token_id=options.get("forced_start_id"),
            forced_eos_token_id=forced,
        )
        inputs = prompts(60)
        rows = [write(model, prompt, {}, [])[0][0] for prompt in inputs]
        alternatives = [[rows[0][4]], [rows[0][7], 31]] + [[forced]] * (forced is not None)
        pairs = itertools.product(ARGUMENTS, alternatives)
        forbids = itertools.product(forbidding(inputs, rows), alternatives[:1])
        for arguments, stop_ids in itertools.chain(pairs, forbids):
            found = [write(model, prompt, arguments, stop_ids) for prompt in inputs]
            exact = [write(model.double(), p, arguments, stop_ids) for p in inputs]
            model.float()
            same = [
                [o[0] for o in f] == [o[0] for o in e] for f, e in zip(found, exact, strict=True)
            ]
            kept = [i for i, ok in enumerate(same) if ok]
            assert len(kept) > 2, (name, arguments)
            ended = sum(one[2] for f in found for one in f)
            print(f"{name:8} {arguments} {stop_ids}: {ended} ended, {len(kept)} of 4 kept")
            runs.append(
                {
                    "name": name,
                    "case": [folder, case_name],
                    "options": options,
                    "arguments": {**arguments, "max_new_tokens": NEW, "stop_ids": stop_ids},
                    "inputs": [inputs[i] for i in kept],
                    "outputs": [found[i] for i in kept],
                }
            )
    runs.sort(key=lambda run: [*MODELS].index(run["name"]))
    save("transformers", f"transformers {transformers.__version__}", runs)


def run_bert4keras():
    import bert4keras
    from bert4keras.snippets import AutoRegressiveDecoder
    from make_bert import bert4keras_cases, build_bert4keras

    class Writer(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="logits")
        def predict(self, inputs, output_ids, states):
            tokens = np.concatenate([inputs[0], output_ids], 1)
            segments = np.concatenate([inputs[1], np.ones_like(output_ids)], 1)
            return self.last_token(self.model).predict([tokens, segments], verbose=0)

    case = next(c for c in bert4keras_cases() if c["name"] == "unilm")
    model = build_bert4keras(case)

    def search(prompt, stop_id, width):
        writer = Writer(start_id=None, end_id=stop_id, maxlen=NEW)
        writer.model = model
        return writer.beam_search([prompt, [0] * len(prompt)], topk=width).tolist()

    runs, inputs = [], prompts(60)
    endless = [search(prompt, -1, 4) for prompt in inputs]
    for stop_id in sorted({row[i] for row in endless for i in (2, 6, 10)}):
        for width in (1, 2, 4):
            outputs = []
            for prompt in inputs:
                row = search(prompt, stop_id, width)
                ended = row[-1] == stop_id
                outputs.append([[row[:-1] if ended else row, None, ended]])
            print(stop_id, width, [(len(o[0][0]), o[0][2]) for o in outputs])
            runs.append(
                {
                    "name": "unilm",
                    "case": ["bert", "unilm"],
                    "options": {},
                    "arguments": {
                        "num_beams": width,
                        "early_stopping": "best",
                        "max_new_tokens": NEW,
                        "stop_ids": [stop_id],
                    },
                    "inputs": inputs,
                    "outputs": outputs,
                }
            )
    save("bert4keras", f"bert4keras {bert4keras.__version__}", runs)

    class OfTable(AutoRegressiveDecoder):
        """Scores that depend on what was written and on the example, and on nothing else."""

        @AutoRegressiveDecoder.wraps(default_rtype="logits")
        def predict(self, inputs, output_ids, states):
            return scores_after(output_ids, inputs[0][:, 0])

    runs = []
    settings = itertools.product((None, 1), (1, 6), (1, 2), (1, 3, 5), (1, 0.5))
    for start_id, minlen, min_ends, width, temperature in settings:
        arguments = {"start_id": start_id, "end_id": 2, "maxlen": 9, "minlen": minlen}
        search = {"topk": width, "min_ends": min_ends, "temperature": temperature}
        writer = OfTable(**arguments)
        outputs = [writer.beam_search([[example]], **search).tolist() for example in range(6)]
        runs.append({"arguments": arguments, "search": search, "outputs": outputs})
    print("lengths", [[len(o) for o in run["outputs"]] for run in runs])
    save("decoder", f"bert4keras {bert4keras.__version__}", runs)


def save(library, source, runs):
    lines = ",\n".join(json.dumps(run) for run in runs)
    text = f'{{"source": "{source}",\n"runs": [\n{lines}\n]}}\n'
    (FOLDER / f"generation_{library}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    {"transformers": run_transformers, "bert4keras": run_bert4keras}[sys.argv[1]](*sys.argv[2:])
