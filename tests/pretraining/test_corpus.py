"""The command line: any number of processes, Beam, a crash in the middle, and its errors."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pretraining import train, validation
from pretraining.corpus import Settings, Task, main, make_shard, run_processes
from pretraining.documents import Part
from pretraining.files import MISTAKES
from pretraining.shards import Shard

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def texts(documents, tmp_path_factory):
    """Three files with documents of a line each."""
    folder = tmp_path_factory.mktemp("texts")
    for number in range(3):
        text = "\n".join(documents[number * 400 : (number + 1) * 400])
        (folder / f"{number}.txt").write_text(text, "utf-8")
    return str(folder / "*.txt")


def flags(texts, vocab, output, *more):
    return [
        *("--input", texts, "--vocab", vocab, "--output", str(output), "--mode", "mlm"),
        *("--sequence-length", "64", "--document", "line", "--shards", "5", *more),
    ]


def contents(output):
    """The bytes of all files of a corpus."""
    return {path.name: path.read_bytes() for path in sorted(Path(output).iterdir())}


@pytest.fixture(scope="module")
def expected(texts, vocab, tmp_path_factory):
    """What one process makes."""
    output = tmp_path_factory.mktemp("corpus") / "one"
    assert main(flags(texts, vocab, output, "--workers", "1")) == 0
    return contents(output)


def test_files(expected):
    manifest = json.loads(expected["corpus.json"])
    names = [shard["name"] for shard in manifest["shards"]]
    assert len(names) == 5
    indexes = [name.replace(".tfrecord", ".index.npz") for name in names]
    assert sorted(expected) == sorted(["corpus.json", *names, *indexes])
    totals = manifest["totals"]
    assert totals["documents"] == 1200 and totals["dropped"] == 0
    assert totals["examples"] == sum(shard["examples"] for shard in manifest["shards"])
    # only the last row of each shard is padded
    assert 0 < totals["padding"] < 5 / totals["examples"]


def test_several_processes_make_the_same(texts, vocab, expected, tmp_path, capsys):
    assert main(flags(texts, vocab, tmp_path / "two", "--workers", "2")) == 0
    assert contents(tmp_path / "two") == expected
    captured = capsys.readouterr()
    assert re.search(r"documents +1,200 .*\ntokens .*unknown .*\nexamples .*padding", captured.out)
    assert "100%" in captured.err


def test_beam_makes_the_same(texts, vocab, expected, tmp_path):
    pytest.importorskip("apache_beam")
    beam = flags(texts, vocab, tmp_path / "beam", "--runner", "DirectRunner")
    assert main(beam) == 0
    assert contents(tmp_path / "beam") == expected
    unique = flags(texts, vocab, tmp_path / "unique", "--near-duplicates", "0.8", "--unique")
    assert main([*unique, "--runner", "DirectRunner"]) == 0
    pool = flags(texts, vocab, tmp_path / "pool", "--near-duplicates", "0.8", "--unique")
    assert main([*pool, "--workers", "1"]) == 0
    assert contents(tmp_path / "unique") == contents(tmp_path / "pool")


def test_a_run_that_was_killed_goes_on(texts, vocab, expected, tmp_path):
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "pretraining.corpus", *flags(texts, vocab, output)]
    process = subprocess.Popen(
        [*command, "--workers", "2"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(output.glob("*.tfrecord")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # the workers end by themselves
    deadline = time.time() + 600  # against hanging alone
    while time.time() < deadline and members(process.pid):
        time.sleep(0.05)
    assert not members(process.pid)

    whole = sorted(output.glob("*.tfrecord"))
    assert 0 < len(whole) < 5, "the kill came too late to show anything"
    for path in whole:
        assert path.read_bytes() == expected[path.name] and len(Shard(str(path)))
    times = {path: path.stat().st_mtime_ns for path in whole}
    (output / "shard-00004-of-00005.tfrecord.tmp-0").write_bytes(b"what a crash leaves")
    assert main(flags(texts, vocab, output, "--workers", "1")) == 0
    assert contents(output) == expected
    assert {path: path.stat().st_mtime_ns for path in whole} == times


def test_files_of_others_stay(texts, vocab, tmp_path):
    output, other = tmp_path / "[1]", tmp_path / "1"
    output.mkdir(), other.mkdir()
    for folder, names in (
        (output, ["notes.tmp-1", "shard-1.tmp-1", "fingerprints-mine.npz"]),
        (other, ["fingerprints-00000.npz", "shard-00000-of-00005.tfrecord.tmp-0"]),
    ):
        for name in names:
            (folder / name).write_text("mine")
    left = [*output.iterdir(), *other.iterdir()]
    assert main(flags(texts, vocab, output, "--workers", "1", "--unique")) == 0
    assert all(path.exists() for path in left)
    assert not (output / "fingerprints-00000.npz").exists()


def die(task, advance):
    os._exit(3)


def test_a_process_that_was_ended_is_named(capsys):
    with pytest.raises(RuntimeError, match=r"ended from outside.*makes what is missing"):
        run_processes(die, [Task(None, number, ()) for number in range(2)], "dying", 2)


def members(group):
    """The living processes of a process group, where the system lists them in /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group, *_ = path.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state != "Z":
                found.append(path)
    return found


def test_a_finished_corpus_is_left_alone(texts, vocab, tmp_path):
    output = tmp_path / "corpus"
    assert main(flags(texts, vocab, output, "--workers", "1")) == 0
    times = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert main(flags(texts, vocab, output, "--workers", "1")) == 0
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == times


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sequence-length", "32"], "sequence_length: 64 there, 32 now"),
        (["--words", "tokens"], "words: 'jieba' there, 'tokens' now"),
        (["--shards", "4"], "shards: 5 there, 4 now"),
    ],
)
def test_other_settings_are_an_error(texts, vocab, expected, tmp_path, capsys, more, message):
    (tmp_path / "corpus.json").write_bytes(expected["corpus.json"])
    assert main(flags(texts, vocab, tmp_path, *more)) == 1
    assert message in capsys.readouterr().err


def test_settings_of_strangers_are_told_in_short(texts, vocab, tmp_path, capsys):
    names = [f"\x1b[31m{'k' * 500}{i}" for i in range(100)]
    (tmp_path / "corpus.json").write_text(json.dumps({"settings": dict.fromkeys(names, names)}))
    assert main(flags(texts, vocab, tmp_path)) == 1
    told = capsys.readouterr().err
    assert r"(\x1b[31mkk" in told and "\x1b" not in told and len(told) < 5000


def test_a_corpus_of_another_kind_is_an_error(texts, vocab, tmp_path, capsys):
    for content in ("{", "[]", '{"files": 3}'):
        (tmp_path / "corpus.json").write_text(content)
        assert main(flags(texts, vocab, tmp_path)) == 1
        assert "corpus.json is not a file of this program" in capsys.readouterr().err


TOTALS = ("documents", "tokens", "unknown", "examples", "places", "filled", "dropped", "padding")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shards": 5}, "corpus.json: shards: expected a list, got 5"),
        ({"totals": None}, "corpus.json: totals: expected the numbers"),
        *[
            (
                {"totals": dict.fromkeys(TOTALS, 3) | odd},
                "corpus.json: totals: expected the numbers",
            )
            for odd in (
                {"tokens": "3"},
                {"tokens": float("nan")},
                {"padding": 10**400},
                {"unknown": -1},
            )
        ],
    ],
)
def test_a_finished_corpus_that_was_changed(
    texts, vocab, expected, tmp_path, capsys, changed, message
):
    content = json.loads(expected["corpus.json"]) | changed
    (tmp_path / "corpus.json").write_text(json.dumps(content))
    assert main(flags(texts, vocab, tmp_path)) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("places", 0, "expected places from"),
        ("examples", -5, "'examples': expected one integer, not below 0"),
        ("examples", 1, "expected examples from"),
        ("filled", 0, "expected filled from"),
        ("filled", 1 << 40, "expected filled from"),
        ("unknown", 1 << 40, "expected unknown from 0 to"),
        ("tokens", (1 << 64) - 1, "expected tokens from 0 to"),
        ("documents", np.iinfo(np.int64).min, "'documents': expected one integer, not below 0"),
        ("dropped", 1, "expected dropped from 0 to 0, got 1"),
        ("more", 1, "expected the numbers documents, dropped, examples"),
        ("tokens", None, "expected the numbers documents, dropped, examples"),
    ],
)
def test_an_index_of_another_shard_is_named(
    texts, vocab, expected, tmp_path, capsys, name, value, told
):
    settings = json.loads(expected["corpus.json"])["settings"]
    for file, content in {**expected, "corpus.json": json.dumps({"settings": settings})}.items():
        (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    path = tmp_path / "shard-00001-of-00005.index.npz"
    with np.load(path) as archive:
        arrays = {**archive, name: value}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    assert main(flags(texts, vocab, tmp_path, "--workers", "1")) == 1
    error = capsys.readouterr().err
    assert f"error: {path}" in error and told in error and error.count("\n") == 1
    for part in (path, tmp_path / "shard-00001-of-00005.tfrecord"):
        part.unlink()
    assert main(flags(texts, vocab, tmp_path, "--workers", "1")) == 0
    assert contents(tmp_path) == expected


def test_documents_that_changed_after_they_were_compared(vocab, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("天气\n天气", "utf-8")
    settings = Settings(str(tmp_path), "mlm", vocab, 64, 1, words="tokens", document="line")
    for dropped in (b"\0", b"\0\1\0"):
        with pytest.raises(ValueError, match=r"a\.txt has other documents than when .*; remove "):
            make_shard(Task(settings, 0, (Part(str(path)),), dropped))


def test_duplicates_are_left_out(documents, vocab, tmp_path, capsys):
    distinct = sorted(set(documents), key=documents.index)[:60]
    longest = max(distinct, key=len)
    near = longest[: len(longest) // 2] + "改" + longest[len(longest) // 2 + 1 :]
    lines = [*distinct, distinct[3], near, *distinct[:2]]
    (tmp_path / "a.txt").write_text("\n".join(lines), "utf-8")

    def made(name, *more):
        output = tmp_path / name
        texts = str(tmp_path / "a.txt")
        assert main(flags(texts, vocab, output, "--words", "tokens", "--workers", "1", *more)) == 0
        assert not list(output.glob("fingerprints*"))
        return json.loads((output / "corpus.json").read_text())["totals"]

    everything, unique = made("all"), made("unique", "--unique")
    assert (everything["documents"], everything["dropped"]) == (64, 0)
    assert (unique["documents"], unique["dropped"]) == (61, 3)
    capsys.readouterr()
    nearly = made("near", "--near-duplicates", "0.8")
    assert (nearly["documents"], nearly["dropped"]) == (60, 4)
    assert "duplicates left out 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--input", "no such*"], r"--input 'no such\*': no such file"),
        (["--encoding", "ascii"], "is not ascii text"),
        (["--encoding", "utf-16-be"], "--encoding='utf-16-be': expected one in which"),
        (["--encoding", "cp037"], "--encoding='cp037': expected one in which"),
        (["--encoding", "utf8mb4"], "--encoding='utf8mb4': no encoding of characters"),
        (["--encoding", "hex"], "--encoding='hex': no encoding of characters"),
        (["--min-characters", "100000"], "all documents were empty"),
        (["--vocab", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_line(texts, vocab, tmp_path, capsys, more, message):
    assert main(flags(texts, vocab, tmp_path / "corpus", "--workers", "1", *more)) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert re.search(message, line)


def test_a_name_on_a_hub_that_is_not_there_is_one_line(texts, vocab, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    more = ["--workers", "1", "--vocab", "no/such"]
    assert main(flags(texts, vocab, tmp_path / "corpus", *more)) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert "no/such" in line


@pytest.mark.parametrize("command", [train, validation])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_commands_print_mistakes_in_one_line(command, mistake, capsys, monkeypatch):
    def load(*_):
        raise mistake("no such model.")

    monkeypatch.setattr("pretraining.config.load", load)
    assert command.main(["--corpus", "x"]) == 2
    assert capsys.readouterr().err == "error: no such model.\n"


NUMBERS = {
    "corpus": ["sequence-length", "shards", "seed", "min-chinese", "near-duplicates", "workers"],
    "scaling": ["sequence-length", "predictions", "rows-per-core", "utilization"],
    "texts": ["min-chinese"],
    "ngrams": ["order"],
}
NEEDED = ["--corpus", "x", "--heldout", "x"], ["--input", "x", "--output", "x"]


@pytest.mark.parametrize(
    ("program", "option"), [(program, name) for program in NUMBERS for name in NUMBERS[program]]
)
@pytest.mark.parametrize("value", ["-1", "1" + "0" * 25, "nan", "inf", "", "1" * 5000])
def test_numbers_are_of_a_range(program, option, value, capsys):
    needed = {"ngrams": NEEDED[0], "scaling": []}.get(program, NEEDED[1])
    needed = [*needed, "--mode", "mlm", "--vocab", "x"] if program == "corpus" else needed
    folder = "benchmarks" if program == "scaling" else "pretraining"
    with pytest.raises(SystemExit) as left:
        import_module(f"{folder}.{program}").main([*needed, f"--{option}", value])
    line = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 2 and len(line) < 400
    assert re.search(
        rf"argument --{option}: expected a (whole )?number from \S+ to \S+, got '", line
    )


def test_settings_that_nobody_typed_are_of_a_range(tmp_path):
    with pytest.raises(
        ValueError, match=r"--sequence-length=9+: expected a whole number from 8 to"
    ):
        Settings(str(tmp_path), "mlm", "", 10**25 - 1, 1)


def test_errors_of_other_processes_too(texts, vocab, tmp_path, capsys):
    bad = flags(texts, vocab, tmp_path / "corpus", "--workers", "2", "--encoding", "ascii")
    assert main(bad) == 1
    assert re.search(r"^error: \S+\.txt is not ascii text", capsys.readouterr().err, re.M)
    assert not list((tmp_path / "corpus").glob("*.tfrecord"))


def test_unknown_flags(texts, vocab, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(flags(texts, vocab, tmp_path, "--sharsd", "3"))
    assert "--sharsd" in capsys.readouterr().err


def test_without_beam(texts, vocab, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert main(flags(texts, vocab, tmp_path / "corpus", "--runner", "DirectRunner")) == 1
    assert "bert4keras_lite[beam]" in capsys.readouterr().err


def test_output_behind_a_scheme(texts, vocab, expected, tmp_path):
    pytest.importorskip("tensorflow")
    remote = f"file://{tmp_path}/corpus"
    assert main(flags(f"file://{texts}", vocab, remote, "--workers", "1")) == 0
    assert contents(tmp_path / "corpus") == expected


def test_no_framework_is_loaded():
    code = "import sys, pretraining.corpus, pretraining.batches; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not {"keras", "tensorflow", "torch", "jax"} & loaded
