"""What makers of golden files share: filling in cases, holding them sound, writing a folder."""

import json

import numpy as np

FLOAT64 = 6e-6


def make_case(name, config, options, weights, inputs, outputs, **fields):
    """A case of ``cases.json``, the defaults filled in.

    Args:
        name: of the case.
        config: what a published config file says.
        options: of ``build_transformer_model``; ``model`` is one of them.
        weights: key of the table of weights.
        inputs: for each batch, the names of its arrays.
        outputs: what the model gives, in order.
        fields: any other key of a case.
    """
    case = {
        "name": name,
        "maker": None,
        "source": None,
        "class_name": None,
        "config": config,
        "options": options,
        "condition_size": None,
        "checkpoint": None,
        "weights": weights,
        "without": [],
        "inputs": inputs,
        "outputs": outputs,
        "hidden_states": 0,
        "compare": "all",
        "differs_from": None,
        "notes": "",
    }
    if unknown := fields.keys() - case.keys():
        raise TypeError(f"{name}: unknown fields {sorted(unknown)}")
    return {**case, **fields}


def record(results, case, batch, outputs, hidden_states=()):
    """Put what a model gave for one batch under the names that `recipes.load_cases` reads."""
    assert len(outputs) == len(case["outputs"]), case["name"]
    assert len(hidden_states) == case["hidden_states"], case["name"]
    for kind, arrays in (("output", outputs), ("hidden", hidden_states)):
        for i, array in enumerate(arrays):
            results[f"{case['name']}/{kind}_{i}_batch_{batch}"] = np.asarray(array)


def difference(results, name, other):
    """Largest difference between the outputs of two cases, where their shapes agree."""
    common = [
        (value, results[key.replace(f"{name}/", f"{other}/")])
        for key, value in results.items()
        if key.startswith(f"{name}/output") and key.replace(f"{name}/", f"{other}/") in results
    ]
    return max(float(np.abs(a - b).max()) for a, b in common if a.shape == b.shape)


def check(cases, results, precise=None):
    """Hold that arrays are sound and that options matter; print figures for every case.

    Args:
        cases: those just made.
        results: their float32 arrays, by name.
        precise: the same arrays computed in float64, or None.
    """
    for case in cases:
        name = case["name"]
        keys = [key for key in results if key.startswith(f"{name}/")]
        assert keys, name
        for key in keys:
            assert results[key].dtype == np.float32 and np.isfinite(results[key]).all(), key
        line = f"{name:36} std {max(results[k].std() for k in keys):.2f}"
        if precise:
            error = max(float(np.abs(results[k] - precise[k]).max()) for k in keys)
            assert error < FLOAT64, f"{name}: float64 differs by {error}"
            line += f"  float64 {error:.1e}"
        if other := case["differs_from"]:
            change = difference(results, name, other)
            assert change > 5e-5, f"{name} should differ from {other}: {change}"
            line += f"  differs from {other}: {change:.1e}"
        print(line)


def save(folder, maker, cases, results, weights, inputs, start=""):
    """Replace one maker's cases in a folder and leave the others'.

    Args:
        folder: holds ``cases.json``, ``inputs.npz`` and ``outputs.npz``, or will.
        maker: whose cases they are; marks them in ``cases.json``.
        cases, results: as made.
        weights: key -> entry of the table of weights, for the new cases.
        inputs: every input array by name.
        start: only the maker's cases whose names start so are replaced.
    """
    folder.mkdir(exist_ok=True)
    path, document, kept = folder / "cases.json", {"weights": {}, "cases": []}, {}
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        with np.load(folder / "outputs.npz") as file:
            kept = dict(file)
    others = [
        case
        for case in document["cases"]
        if case["maker"] != maker or not case["name"].startswith(start)
    ]
    names = {case["name"] for case in others}
    kept = {key: value for key, value in kept.items() if key.split("/")[0] in names}

    cases = sorted([*others, *({**case, "maker": maker} for case in cases)], key=_maker)
    assert len({case["name"] for case in cases}) == len(cases), "two cases of one name"
    table = {**document["weights"], **weights}
    used = {case["weights"] for case in cases}
    links = ("extends", "renames")
    used |= {table[key][link] for key in used for link in links if link in table[key]}
    document = {"weights": {k: v for k, v in sorted(table.items()) if k in used}, "cases": cases}
    path.write_text(one_line_leaves(document) + "\n", encoding="utf-8")
    arrays = {key for case in cases for keys in case["inputs"] for key in keys}
    np.savez_compressed(folder / "inputs.npz", **{k: inputs[k] for k in sorted(arrays)})
    np.savez_compressed(folder / "outputs.npz", **dict(sorted({**kept, **results}.items())))


def _maker(case):
    return case["maker"]


def one_line_leaves(document):
    """JSON with one case, or one set of weights, a line: small, and a diff stays readable."""
    weights = ",\n".join(
        f"{json.dumps(k)}: {json.dumps(v)}" for k, v in document["weights"].items()
    )
    cases = ",\n".join(json.dumps(case) for case in document["cases"])
    return f'{{"weights": {{\n{weights}\n}},\n"cases": [\n{cases}\n]}}'
