"""From the folders of public texts to a model, with the one command."""

import json
import os
import tracemalloc

import pytest

from bert4keras_lite import build_transformer_model
from pretraining.batches import read_manifest
from pretraining.laptop import files_within, main, write_pairs

ROWS = [
    ("论语", "学而时习之", "学了又时常温习"),
    ("论语", "不亦说乎", "不是很愉快吗"),
    ("孟子", "王何必曰利", "大王何必说利"),
]


@pytest.fixture
def data(tmp_path, documents):
    (tmp_path / "lm_laws").mkdir()
    (tmp_path / "lm_laws/text.txt").write_text("\n\n".join(documents[:100]), "utf-8")
    (tmp_path / "lm_cluecorpus_sample").mkdir()
    web = tmp_path / "lm_cluecorpus_sample/CLUECorpusSmall_bert_sampled.txt"
    web.write_text("\n\n".join(documents[100:120]), "utf-8")
    (tmp_path / "classical_modern").mkdir()
    pairs = "".join("\t".join(row) + "\n" for row in ROWS)
    (tmp_path / "classical_modern/pairs.tsv").write_text(pairs, "utf-8")
    (tmp_path / "reviews").mkdir()
    lines = [f"{number % 2}\t{' '.join(text.split())}" for number, text in enumerate(documents)]
    (tmp_path / "reviews/a.train.tsv").write_text("\n".join(lines[120:160]), "utf-8")
    (tmp_path / "reviews/test.tsv").write_text("\n".join(lines[150:170]), "utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/train.tsv").write_text("1\t" + " ".join(documents[170].split()), "utf-8")
    (tmp_path / "reviews/latest.png").write_bytes(b"\xff")  # neither of them
    return tmp_path


def test_pairs_become_a_document_a_book_and_language(data):
    write_pairs(data / "classical_modern/pairs.tsv", data / "out.txt")
    assert (data / "out.txt").read_text("utf-8").strip().split("\n\n") == [
        "学而时习之\n不亦说乎",
        "学了又时常温习\n不是很愉快吗",
        "王何必曰利",
        "大王何必说利",
    ]


@pytest.mark.once
@pytest.mark.parametrize(
    "rows", ["\t\t\n" * 300_000, "b\t中\t文\n" * 200_000, "中\t" * 300_000 + "\n"]
)
def test_pairs_take_little_memory(tmp_path, rows):
    (tmp_path / "pairs.tsv").write_text(rows, "utf-8")
    tracemalloc.start()
    try:
        write_pairs(tmp_path / "pairs.tsv", tmp_path / "out.txt")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_from_texts_to_a_model(data, vocab, tokenizer):
    run = data / "run"
    flags = ["--data", str(data), "--vocab", vocab, "--output", str(run), "--labelled"]
    flags += ["--tasks", "reviews", "--steps", "2"]
    flags += ["--warmup_steps", "1", "--log_every", "1", "--batch_size", "4", "--peak_flops", "1e9"]
    flags += ["--model.vocab_size", str(tokenizer.vocab_size), "--model.hidden_size", "16"]
    flags += ["--model.num_hidden_layers", "1", "--model.num_attention_heads", "2"]
    flags += ["--model.intermediate_size", "16", "--sequence-length", "32"]
    assert main(flags) == 0
    assert read_manifest(str(run / "corpus"))["totals"]["documents"] == 100 + 4
    assert read_manifest(str(run / "web"))["totals"]["documents"] == 20
    corpora = json.loads((run / "settings.yaml").read_text("utf-8"))["corpus"]
    times = {"corpus": 1, "web": 16, "labelled": 6, "tasks": 32}
    assert corpora == {str(run / name): n for name, n in times.items()}
    for name in ("labelled", "tasks"):  # ten are in the test; other folders' are no task's
        documents = read_manifest(str(run / name))["totals"]["documents"]
        assert documents == {"labelled": 31, "tasks": 30}[name]
    for format in ("tf", "hf"):
        model = build_transformer_model(run / "model" / format, with_mlm=True)
        assert model.output_shape[-1] == tokenizer.vocab_size


def test_without_texts(tmp_path, vocab, capsys):
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path), "--vocab", vocab, "--output", str(tmp_path / "run")])
    assert "expected one of lm_laws/text.txt" in capsys.readouterr().err


@pytest.mark.once
def test_pairs_of_another_layout(data, vocab, capsys):
    (data / "classical_modern/pairs.tsv").write_text("论语\t学而时习之\n", "utf-8")
    flags = ["--data", str(data), "--vocab", vocab]
    assert main([*flags, "--output", str(data / "run")]) == 1
    assert "pairs.tsv, line 1: 2 columns; expected book" in capsys.readouterr().err
    (data / "file").write_text("")
    assert main([*flags, "--output", str(data / "file")]) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.once
def test_a_name_with_the_signs_of_patterns(data, vocab):
    (data / "run1").mkdir()
    (data / "run1/classical_modern.txt").write_text("别处", "utf-8")
    flags = ["--data", str(data), "--vocab", vocab, "--output", str(data / "run[1]")]
    assert main([*flags, "--steps", "0"]) != 0  # after the corpora
    assert read_manifest(str(data / "run[1]/corpus"))["totals"]["documents"] == 100 + 4


def test_a_task_without_a_folder(data, vocab, capsys):
    flags = ["--data", str(data), "--vocab", vocab, "--output", str(data / "run")]
    with pytest.raises(SystemExit):
        main([*flags, "--tasks", "reviews", "names"])
    assert "--tasks names: expected a folder" in capsys.readouterr().err
    assert not (data / "run").exists()


@pytest.mark.once
@pytest.mark.parametrize("depth", [101, 400])
def test_directories_deep_within_each_other(data, vocab, capsys, monkeypatch, depth):
    files = files_within(data)
    assert files == sorted(path for path in data.rglob("*") if path.is_file())
    (data / "itself").symlink_to(data)
    assert files_within(data) == files
    monkeypatch.chdir(data)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    flags = [
        "--data",
        str(data),
        "--vocab",
        vocab,
        "--output",
        str(data / "run"),
        "--labelled",
        "--steps",
        "0",
    ]
    assert main(flags) == 1
    err = capsys.readouterr().err
    assert (
        f"{data}: has directories nested more than 100 levels deep" in err
        and len(err) < len(str(data)) + 300
    )
    for _ in range(depth):  # which whoever removes the directory could not
        os.chdir("..")
        os.rmdir("d")


@pytest.mark.once
def test_a_corpus_that_is_a_link(data, vocab, capsys):
    (data / "run").mkdir()
    (data / "run" / "corpus").symlink_to(data / "more")
    before = sorted(data.glob("more/*"))
    assert main(["--data", str(data), "--vocab", vocab, "--output", str(data / "run")]) == 1
    assert "run/corpus: is a link" in capsys.readouterr().err
    assert sorted(data.glob("more/*")) == before
