"""Making a corpus, side by side with bert4keras; its tokenization, with the Rust library.

    python benchmarks/corpus.py CONTENDER [--characters 5000000] [--workers N] ...

| contender | what is timed |
|---|---|
| `ours` | `python -m pretraining.corpus --mode mlm`, from start to end |
| `bert4keras` | `TrainingDatasetRoBERTa.process` of its `pretraining/data_utils.py`, the models' own driver; loading TensorFlow and jieba is not timed |
| `tokenization` | ids of all documents, in processes, without words and files |
| `rust` | the same by `encode_batch` of the library `tokenizers`, in its threads |

Every contender gets the same documents, vocabulary and number of workers, and prints one line of
JSON; `cpu` is the processor time of all processes, loading included, which other work on the
machine disturbs less. Tokens are those written that are not padding, or those of the documents.
bert4keras' script is not in its package: give its path (`--script`).
"""

import argparse
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

sys.path.insert(0, str(ROOT))


def read_documents(path, characters):
    """Documents between empty lines, as many as have so many characters."""
    documents, size = [], 0
    text = Path(path).read_text("utf-8")
    while size < characters:
        for document in text.split("\n\n"):
            if size < characters and document.strip():
                documents.append(document)
                size += len(document)
    return documents


def ours(documents, options):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "texts.txt").write_text("\n\n".join(documents), "utf-8")
        command = [sys.executable, "-m", "pretraining.corpus", "--mode", "mlm"]
        command += ["--input", f"{folder}/texts.txt", "--output", f"{folder}/corpus"]
        command += ["--vocab", options.vocab, "--sequence-length", str(options.length)]
        command += ["--shards", str(4 * options.workers), "--workers", str(options.workers)]
        begun = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        manifest = json.loads(Path(folder, "corpus", "corpus.json").read_text("utf-8"))
        return manifest["totals"]["filled"], seconds


def bert4keras(documents, options):
    if not options.script:
        raise SystemExit("bert4keras: give --script, the path of its pretraining/data_utils.py")
    os.environ |= {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}
    spec = importlib.util.spec_from_file_location("data_utils", options.script)
    data_utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data_utils)
    import jieba
    import tensorflow as tf
    from bert4keras.tokenizers import Tokenizer

    jieba.initialize()
    tokenizer = Tokenizer(options.vocab, do_lower_case=True)
    dataset = data_utils.TrainingDatasetRoBERTa(
        tokenizer, jieba.lcut, sequence_length=options.length
    )
    # as its driver does: ten documents at a time, in sentences
    paragraphs = [
        [text for document in group for text in re.findall(".*?[\n。]+", document + "\n")]
        for group in in_groups(documents, 10)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/corpus.tfrecord"
        begun = time.perf_counter()
        dataset.process(paragraphs, path, workers=options.workers, max_queue_size=2000)
        seconds = time.perf_counter() - begun
        tokens = 0
        for record in tf.data.TFRecordDataset(path):
            example = tf.train.Example.FromString(record.numpy())
            tokens += sum(map(bool, example.features.feature["token_ids"].int64_list.value))
    return tokens, seconds


def in_groups(items, size):
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


def count_tokens(documents):
    return sum(len(tokenizer.encode(document)[0]) - 2 for document in documents)


def load_tokenizer(vocab):
    global tokenizer
    from bert4keras_lite.tokenizers import Tokenizer

    tokenizer = Tokenizer(vocab)


def tokenization(documents, options):
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with context.Pool(options.workers, load_tokenizer, (options.vocab,)) as pool:
        pool.map(count_tokens, [documents[:1]] * options.workers, chunksize=1)
        begun = time.perf_counter()
        tokens = sum(pool.imap_unordered(count_tokens, in_groups(documents, 64)))
        return tokens, time.perf_counter() - begun


def rust(documents, options):
    os.environ["RAYON_NUM_THREADS"] = str(options.workers)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from tokenizers import BertWordPieceTokenizer

    library = BertWordPieceTokenizer(options.vocab, lowercase=True)
    begun = time.perf_counter()
    tokens = sum(
        len(encoding.ids) - 2
        for group in in_groups(documents, 1000)
        for encoding in library.encode_batch(group)
    )
    return tokens, time.perf_counter() - begun


CONTENDERS = {f.__name__: f for f in (ours, bert4keras, tokenization, rust)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--data", default=SHARED / "data/lm_cluecorpus_sample", type=Path)
    parser.add_argument("--vocab", default=str(SHARED / "tokenizers/bert_chinese_vocab/vocab.txt"))
    parser.add_argument("--length", type=int, default=512, help="tokens a sequence")
    parser.add_argument("--characters", type=int, default=5_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--script", help="bert4keras' pretraining/data_utils.py")
    options = parser.parse_args()
    data = options.data
    if data.is_dir():
        data = data / "CLUECorpusSmall_bert_sampled.txt"
    documents = read_documents(data, options.characters)
    before = processor_seconds()
    tokens, seconds = CONTENDERS[options.contender](documents, options)
    result = {"contender": options.contender, "workers": options.workers, "tokens": tokens}
    result |= {"seconds": seconds, "tokens_per_second": tokens / seconds}
    print(json.dumps({**result, "cpu": processor_seconds() - before}))


def processor_seconds():
    """Processor time of this process and of those that it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


if __name__ == "__main__":
    main()
