"""All examples as they are run first: without options, on the samples in the repository.

    python benchmarks/samples.py [--output samples.json] [--only NAME ...]
        [--table examples/README.md]

Each script is run by itself; its time is that of the processors. Its scores are read off what it
prints. What has been run is kept in `--output`, and not run again. With `--table`, the table of
that file is written anew.
"""

import argparse
import ast
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from results import MARKS, Run, scores_of

from bert4keras_lite.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PATTERN = (
    r"(?i)^(?!.*(/step|tokens/s|to learn from))"
    r"(test|valid|F1|\s+(random weights|tiny-zh)\s|.*\b(accuracy|perplexity|Spearman)\b).*\d"
)


def scripts():
    """The examples that are run by themselves: name -> the first line of what they are about."""
    names = [p for kind in ("basic", "classic", "task") for p in ROOT.glob(f"examples/{kind}_*.py")]
    names += [
        ROOT / "examples" / f"{name}.py" for name in ("choose_validation_split", "quickstart")
    ]
    names = [p for p in names if p.stem != "basic_serving_client"]  # it wants a server
    docs = {p.stem: ast.get_docstring(ast.parse(p.read_text("utf-8"))) for p in names}
    return {name: doc.split("\n")[0] for name, doc in sorted(docs.items())}


def execute(name, backend, threads):
    """What a script said, as `{"scores", "seconds"}` or `{"failed"}`."""
    environment = {"OMP_NUM_THREADS": threads, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    if done.returncode:
        return {"failed": done.stderr[-2000:]}
    metric, _, scores = scores_of(Run(name, scores=PATTERN), done.stdout)
    scores = [f"{metric}: {'; '.join(scores)}"] if metric else scores
    return {"scores": scores, "seconds": round(seconds)}


def table(docs, results):
    rows = ["| script | what it shows | on the sample | CPU s |", "|---|---|---|---|"]
    for name, doc in docs.items():
        row = results.get(name, {"scores": ["not run"], "seconds": ""})
        scores = "; ".join(row["scores"]) or "no score"
        rows.append(f"| [{name}.py]({name}.py) | {doc} | {scores} | {row['seconds']} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--output", default="samples.json")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--table", help="a file with a place for it")
    options = parser.parse_args()
    kept, docs = Path(options.output), scripts()
    results = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    failed = 0
    for number, name in enumerate(docs, 1):
        if name in results or (options.only and name not in options.only):
            continue
        found = execute(name, options.backend, options.threads)
        said = found.get("failed") or f"{found['scores']} in {found['seconds']} s"
        print(f"{number}/{len(docs)} {name}: {said}", flush=True)
        failed += "failed" in found
        if "failed" not in found:
            results[name] = found
            write_text(kept, json.dumps(results, ensure_ascii=False, indent=1))
    if options.table:
        path = Path(options.table)
        before, rest = path.read_text("utf-8").split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        write_text(path, f"{before}{MARKS[0]}\n{table(docs, results)}\n{MARKS[1]}{after}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
