"""The examples on public data, and the table of what they reach in docs/results.md.

    python benchmarks/results.py --data D --checkpoint T [--output results.json] [--only NAME ...]

Each row of `RUNS` is an example with the options of one run. Here it is run with `--data` and
`--checkpoint`, by itself and on one thread, `--jobs` of them side by side. Its scores are read off
what it prints, never typed in. What has been run is kept in `--output`, and not run again; at the
end the table is written to `--table`, between the lines `<!-- results -->` and `<!-- /results -->`.

D has a folder for each data set (see `RUNS` for names and files). Of files too large for two cores
the first lines are taken (`rows`); a run says so in its data column.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bert4keras_lite.files import write_text

ROOT = Path(__file__).resolve().parents[1]
MARKS = "<!-- results -->", "<!-- /results -->"
# `accuracy, mean and standard deviation over 3 seeds`, and below it a line a way of training
COMPARED = re.compile(r"^(.+), mean and standard deviation over (\d+) seeds?$")
WAY = re.compile(r"^(.+?) +(-?[\d.]+) ± ([\d.]+) +[+-]")
NUMBER = r"-?[\d,]*\.\d+"


@dataclass
class Run:
    """One row of the table.

    Attributes:
        script: in examples, without `.py`.
        data: within D; empty: the sample of the script.
        options: what else is on its command line; with `--vary`, it is run by compare.py.
        rows: file -> how many of its lines are read.
        scores: a pattern, of what lines that tell a score begin with, where it is not `compare`
            that tells them.
        pretrained: whether it starts from T; else as the script does without `--checkpoint`.
    """

    script: str
    data: str = ""
    options: str = ""
    rows: dict = field(default_factory=dict)
    scores: str = r"^(test|valid).*"
    pretrained: bool = True

    @property
    def name(self):
        return f"{self.script} {self.data}".strip()

    def command(self, data="D", checkpoint="T"):
        parts = ["benchmarks/compare.py"] if "--vary" in self.options else []
        parts += [f"examples/{self.script}.py"]
        parts += ["--checkpoint", str(checkpoint)] if self.pretrained else []
        parts += ["--data", f"{data}/{self.data}"] if self.data else []
        return [*parts, *self.options.split()]

    def shown(self):
        """The data column."""
        cut = ", ".join(f"{count:,} lines of {name}" for name, count in self.rows.items())
        return (self.data or "sample") + (f" ({cut})" if cut else "")


RUNS = [
    # one label a text
    Run(
        "task_sentiment_classification",
        "chnsenticorp",
        "--epochs 2 --learning-rate 3e-4",
        {"train.tsv": 3001},
    ),
    Run(
        "task_sentiment_albert",
        "sentiment_bert4keras",
        "--epochs 4 --maxlen 64",
        {"sentiment.train.data": 4000},
        pretrained=False,
    ),
    Run(
        "task_sentiment_virtual_adversarial_training",
        "sentiment_bert4keras",
        "--vary epsilon=0,0.3 --seeds 2 --epochs 8 --maxlen 64 --learning-rate 3e-4",
        {"sentiment.train.data": 3000},
    ),
    Run(
        "task_sentiment_integrated_gradients",
        "chnsenticorp",
        "--epochs 2",
        {"train.tsv": 1001},
        r"^the sums miss the scores by [\d.]+ at most",
    ),
    Run(
        "basic_lora",
        "chnsenticorp",
        "--vary rank=0,8 --seeds 2 --maxlen 64 --learning-rate 3e-4 --lora-rate 2e-3",
        {"train.tsv": 1001},
    ),
    Run(
        "basic_long_texts_hierarchical_position",
        "",
        "--vary method=cut,repeat,hierarchical --seeds 3",
        pretrained=False,
    ),
    Run(
        "choose_validation_split",
        "chnsenticorp",
        "--maxlen 64 --learning-rate 3e-4",
        {"train.tsv": 3001},
        r"^area under.*",
    ),
    Run(
        "task_tnews",
        "dataclue/raw_tnews",
        "--vary keywords=no,yes --seeds 1 --maxlen 48 --epochs 2 --learning-rate 5e-4",
        {"train.json": 6000},
    ),
    *(
        Run(
            f"task_iflytek_{method}",
            "dataclue/raw_tnews",
            f"--vary {vary} --seeds 2 --maxlen 32 --epochs 2 --learning-rate 5e-4",
            {"train.json": 1500, "dev.json": 1000, "test_public.json": 1000},
        )
        for method, vary in (
            ("adversarial_training", "epsilon=0,0.5"),
            ("gradient_penalty", "weight=0,1.0"),
            ("bert_of_theseus", "method=small,theseus,large --layers 2"),
        )
    ),
    # two texts
    Run(
        "task_ocnli",
        "ocnli",
        "--vary sentences=second,both --seeds 1 --maxlen 48 --epochs 2 --learning-rate 3e-4",
        {"train.10k.json": 4000},
    ),
    Run(
        "task_sentence_similarity",
        "afqmc",
        "--maxlen 48 --epochs 2 --learning-rate 3e-4",
        {"train.txt": 4000, "dev.txt": 2000},
        r"^\w+ accuracy: .*",
    ),
    Run(
        "task_sentence_embedding_search",
        "stsb_zh",
        "",
        {},
        r".* partner found first .*",
    ),
    Run(
        "task_sentence_embedding_simcse",
        "stsb_zh",
        "--learning-rate 1e-4",
        scores=r"^(before training|test).*",
    ),
    Run(
        "task_text_matching_cosent",
        "stsb_zh",
        "--vary method=regression,CoSENT --seeds 1 --epochs 2 --learning-rate 3e-4",
    ),
    Run(
        "task_sohu_matching",
        "sohu2021_ss",
        "--vary models=each,one --seeds 1 --maxlen 96 --epochs 3 --learning-rate 5e-4",
        {"A_train.jsonl": 1000, "B_train.jsonl": 1000, "A_valid.jsonl": 800, "B_valid.jsonl": 800},
    ),
    # tags, spans, relations
    Run(
        "task_sequence_labeling_ner_crf",
        "weibo_ner",
        "--vary method=softmax,CRF --seeds 1 --epochs 6 --learning-rate 5e-4 --maxlen 96",
    ),
    Run(
        "task_sequence_labeling_ner_crf",
        "cluener",
        "--vary method=softmax,CRF --seeds 1 --epochs 3 --learning-rate 5e-4 --maxlen 64",
        {"train.json": 2500},
    ),
    Run(
        "task_sequence_labeling_cws_crf",
        "cws_ud_chinese",
        "--vary method=softmax,CRF,MEMM --seeds 1 --epochs 2 --learning-rate 5e-4 --maxlen 96",
        {"train.conll": 50000},
    ),
    Run(
        "task_ner_global_pointer",
        "cluener",
        "--vary method=without-rotary,GlobalPointer,efficient --seeds 1 --epochs 3 --learning-rate"
        " 5e-4 --maxlen 64",
        {"train.json": 900},
    ),
    Run(
        "task_relation_extraction",
        "duie_sample",
        "--epochs 3 --learning-rate 5e-4 --ema-momentum 0.98 --maxlen 96",
        {"train_data.json": 1000, "dev_data.json": 300},
        r"^(as trained|test|valid).*",
    ),
    Run(
        "task_relation_extraction_gplinker",
        "duie_sample",
        "--epochs 6 --learning-rate 3e-4 --batch-size 8 --ema-momentum 0.98 --maxlen 96",
        {"train_data.json": 1000, "dev_data.json": 300},
        r"^(as trained|test|valid).*",
    ),
    Run(
        "task_entity_linking",
        "kgclue",
        "--epochs 2 --learning-rate 5e-4 --maxlen 48 --maxpair 96 --candidates 4 --scored 200",
        {"train.json": 3000, "test_public.json": 400},
        r"^F1 of .*",
    ),
    # texts
    Run(
        "task_question_answer_generation",
        "dureader_qg_dev",
        "--epochs 8 --learning-rate 5e-4 --maxlen 128 --scored 60",
        {},
        rf"^(answers|questions|.*reader).*{NUMBER}.*",
    ),
    *(
        Run(
            f"task_reading_comprehension_by_{way}",
            "cmrc2018/cmrc2018_trial.json",
            f"--epochs {epochs} --learning-rate 5e-4 --maxlen {length} --scored 100",
        )
        for way, epochs, length in (("mlm", 1, 160), ("seq2seq", 1, 128), ("span", 2, 320))
    ),
    Run(
        "task_seq2seq_autotitle_csl",
        "csl_title",
        "--epochs 3 --learning-rate 5e-4 --maxlen 128 --scored 60",
        {"csl_title_train.json": 400},
    ),
    Run(
        "task_seq2seq_autotitle_csl_mt5",
        "csl_title",
        "--epochs 3 --maxlen 128 --scored 60",
        {"csl_title_train.json": 800},
        pretrained=False,
    ),
    Run(
        "task_seq2seq_ape210k_math_word_problem",
        "ape210k/valid.ape.json",
        "--epochs 2 --learning-rate 5e-4 --maxlen 64 --scored 100",
        {"valid.ape.json": 1500},
    ),
    Run(
        "task_seq2seq_couplets",
        "couplets_test",
        "--epochs 2 --learning-rate 5e-4 --scored 100",
        {},
        r"^with(out)? constraints:.*",
    ),
    Run(
        "task_conditional_language_model",
        "sentiment_bert4keras",
        "--epochs 2 --learning-rate 5e-4 --maxlen 64 --scored 50",
        {"sentiment.train.data": 1800},
    ),
    Run(
        "task_language_model",
        "lm_cluecorpus_sample/CLUECorpusSmall_sampled.txt",
        "--epochs 1 --learning-rate 5e-4 --maxlen 128 --batch-size 32",
        {"CLUECorpusSmall_sampled.txt": 800},
    ),
    # no public data at hand: the sample
    *(
        Run(f"task_{name}", pretrained=False)
        for name in ("seq2seq_autotitle", "language_model_chinese_chess", "image_caption")
    ),
    # words before characters
    Run(
        "classic_sentiment_lstm",
        "sentiment_bert4keras",
        "--vary units=one-hot,characters,words --seeds 1 --epochs 3 --maxlen 64",
        {"sentiment.train.data": 2000},
        pretrained=False,
    ),
    Run(
        "classic_word2vec",
        "lm_modern_prose/text.txt",
        "--lines 20000 --epochs 2",
        {},
        r".* epochs  .*",
        pretrained=False,
    ),
    Run("classic_cloze_reading", pretrained=False),
]


def cut(source, rows, target):
    """A copy of a file, or of a folder's files, of those in `rows` the first lines alone."""
    if source.is_dir():
        for path in source.iterdir():
            cut(path, rows, target / path.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name not in rows:
        target.symlink_to(source)
        return
    with open(source, encoding="utf-8") as lines:
        target.write_text("".join(islice(lines, rows[source.name])), encoding="utf-8")


def scores_of(run, said):
    """What a script said of its scores.

    Returns:
        `(metric, seeds, scores)`; the scores are texts, none if nothing fits. Scripts that do not
        `compare` name the metric in these: it is empty then.
    """
    metric, seeds, found = "", 1, []
    for line in said.splitlines():
        if match := COMPARED.match(line):
            metric, seeds, found = match[1], int(match[2]), []
        elif metric and (match := WAY.match(line)):
            spread = f" ± {float(match[3]):.3f}" if seeds > 1 else ""
            found.append(f"{match[1]} {float(match[2]):.3f}{spread}")
    if not found:
        matches = filter(None, (re.match(run.scores, line) for line in said.splitlines()))
        found = [" ".join(match[0].split()) for match in matches]
    return metric, seeds, found


def execute(run, options):
    """Runs an example in a copy of `examples`, as two of them may write the same files.

    Returns:
        What the table needs, `seconds` being those of the whole script; or `failed`, the end of
        what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(options.data).resolve()
        if run.rows:
            cut(data / run.data, run.rows, Path(folder, run.data))
            data = Path(folder)
        output = shutil.ignore_patterns("output")
        for name in ("examples", "benchmarks"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=output)
        checkpoint = Path(options.checkpoint).resolve()
        command = [sys.executable, *run.command(data, checkpoint)]
        environment = {"OMP_NUM_THREADS": "1", "KERAS_BACKEND": options.backend}
        environment |= {"PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
    if options.logs:
        Path(options.logs).mkdir(parents=True, exist_ok=True)
        log = Path(options.logs, re.sub(r"\W+", "_", run.name) + ".txt")
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
    metric, seeds, found = scores_of(run, done.stdout)
    if done.returncode:
        return {"failed": done.stderr[-2000:]}
    if not found:
        return {"failed": f"no line fits {run.scores!r} in\n{done.stdout[-2000:]}"}
    return {
        "data": run.shown(),
        "metric": metric,
        "seeds": seeds,
        "scores": found,
        "seconds": round(seconds),
        "command": " ".join(run.command()),
    }


def table(results):
    rows = ["| command, after `python` | data | scores | seeds | min |", "|---|---|---|---|---|"]
    for row in results.values():
        scores = "; ".join(row["scores"])
        scores = f"{row['metric']}: {scores}" if row["metric"] else scores
        minutes = f"{row['seconds'] / 60:.1f}"
        rows.append(
            f"| `{row['command']}` | {row['data']} | {scores} | {row['seeds']} | {minutes} |"
        )
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--output", default="results.json")
    parser.add_argument("--table", default=str(ROOT / "docs" / "results.md"))
    parser.add_argument("--logs", help="a directory for what the scripts print")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    options = parser.parse_args()
    kept = Path(options.output)
    results = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    wanted = [
        run
        for run in RUNS
        if (not options.only or any(name in run.name for name in options.only))
        and results.get(run.name, {}).get("command") != " ".join(run.command())
    ]
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = {pool.submit(execute, run, options): run for run in wanted}
        for number, future in enumerate(as_completed(futures), 1):
            run, found = futures[future], future.result()
            if "failed" in found:
                print(f"{number}/{len(wanted)} {run.name} FAILED\n{found['failed']}", flush=True)
                failed += 1
                continue
            print(f"{number}/{len(wanted)} {run.name}: {found['scores']}", flush=True)
            results[run.name] = found
            write_text(kept, json.dumps(results, indent=1, ensure_ascii=False))
    ordered = {run.name: results[run.name] for run in RUNS if run.name in results}
    page = Path(options.table)
    text = page.read_text("utf-8")
    begin, end = (text.index(mark) for mark in MARKS)
    text = f"{text[: begin + len(MARKS[0])]}\n{table(ordered)}\n{text[end:]}"
    write_text(page, text)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
