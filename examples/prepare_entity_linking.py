"""Turns the files of CCKS 2019, KgCLUE or NLPCC 2016 KBQA into those of task_entity_linking.py.

    python examples/prepare_entity_linking.py DIR OUT

DIR holds one of these, which is seen by the names of the files:

CCKS 2019: `kb_data` and `train.json`. Mentions that are linked to nothing (NIL) are left out, as
    the contest did not count them. Of train.json every tenth text is for validation, every tenth
    for the test.
KgCLUE: `train.json`, `dev.json` and `test_public.json`. Each question has an answer `entity (which
    one) ||| relation ||| object`. The entry is the entity, the mention is its name in the question.
NLPCC 2016 KBQA: files with `training-data` and `testing-data` in their names.

Of the last two the whole knowledge base is not at hand, so it is made of all triples in the
answers, those of the test too: entries are poorer, and there are fewer of one name, than in the
contest. A question without anything of its entity's name is left out; how many are is printed.

OUT gets `kb.json`: {"id": ..., "names": [...], "text": what is known, "values": [short objects]};
and train.json, valid.json, test.json, each line {"text": ..., "mentions": [[start, end, id], ...]}.
"""

import argparse
import json
import re
from difflib import SequenceMatcher
from pathlib import Path

from bert4keras_lite.data import read_json_lines
from bert4keras_lite.files import saving

SHORTEST = 2  # characters of a name that a mention must have in common with it
LONGEST = 10  # characters of an object that can be looked for in a text


def load(directory):
    """Entries as in kb.json, and split -> list of (text, [(start, end, id), ...])."""
    readers = {"kb.json": read_prepared, "kb_data": read_ccks}
    readers |= {"test_public.json": read_kgclue, "*training-data*": read_nlpcc}
    for name, read in readers.items():
        if any(Path(directory).glob(name)):
            return read(Path(directory))
    raise SystemExit(
        f"{directory}: expected kb.json (from prepare_entity_linking.py), kb_data (CCKS 2019), "
        "test_public.json (KgCLUE) or *training-data (NLPCC 2016 KBQA)."
    )


def save(directory, entries, samples):
    """Writes kb.json, train.json, valid.json and test.json."""
    files = {"kb": entries}
    for split, rows in samples.items():
        files[split] = [{"text": text, "mentions": mentions} for text, mentions in rows]
    with saving(directory) as folder:  # all together, or nothing
        for name, rows in files.items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.json").write_text("".join(lines), encoding="utf-8")


def read_prepared(directory):
    def row(line):
        return line["text"], [tuple(mention) for mention in line["mentions"]]

    splits = ("train", "valid", "test")
    samples = {split: read_json_lines(directory / f"{split}.json", row) for split in splits}
    return read_json_lines(directory / "kb.json"), samples


def entry(number, names, facts):
    """An entry of kb.json, from what is known of it: (relation, object)."""
    values = {value.lower() for _, value in facts if SHORTEST <= len(value) <= LONGEST}
    return {
        "id": number,
        "names": [*dict.fromkeys(names)],
        "text": "；".join(f"{relation}：{value}" for relation, value in facts),
        "values": sorted(values - {name.lower() for name in names}),
    }


def read_ccks(directory):
    """The knowledge base and the texts of CCKS 2019."""
    entries = {}

    def known(row):
        number = row["subject_id"]
        if number in entries:
            raise ValueError(f"subject_id {number} is there a second time")
        facts = [(fact["predicate"], fact["object"]) for fact in row["data"]]
        entries[number] = entry(number, [row["subject"], *row["alias"]], facts)

    read_json_lines(directory / "kb_data", known)

    def sample(row):
        text, mentions = row["text"], []
        for entity in row["mention_data"]:
            mention, start, number = entity["mention"], int(entity["offset"]), entity["kb_id"]
            name = text[start : start + len(mention)]
            if not mention or start < 0 or name.lower() != mention.lower():
                raise ValueError(f"at offset {start} is not {mention!r} but {name!r}")
            if number in entries:
                mentions.append((start, start + len(mention), number))
            elif number != "NIL":
                raise ValueError(f"kb_id {number} is not in kb_data")
        return text, mentions

    rows = read_json_lines(directory / "train.json", sample)
    train = [row for i, row in enumerate(rows) if i % 10 < 8]
    return [*entries.values()], {"train": train, "valid": rows[8::10], "test": rows[9::10]}


def read_kgclue(directory):
    """Entries and questions of KgCLUE."""

    def question(row):
        return row["question"], triple(row["answer"])

    files = {"train": "train.json", "valid": "dev.json", "test": "test_public.json"}
    samples = {split: read_json_lines(directory / name, question) for split, name in files.items()}
    return from_questions(samples)


def read_nlpcc(directory):
    """Entries and questions of NLPCC 2016 KBQA; every tenth of training is for validation."""
    samples = {}
    for split, name in (("train", "training-data"), ("test", "testing-data")):
        paths = sorted(directory.glob(f"*{name}*"))
        if not paths:
            raise SystemExit(f"{directory}: there is no file with {name} in its name.")
        samples[split] = read_tagged(paths[0])
    samples["valid"] = samples["train"][9::10]
    samples["train"] = [row for i, row in enumerate(samples["train"]) if i % 10 != 9]
    return from_questions(samples)


def read_tagged(path):
    """(question, triple) of lines `<question id=1> TAB text`, `<triple id=1> TAB triple`."""
    questions, asked = [], None
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        tag, _, text = line.rstrip("\r").partition("\t")
        if tag.startswith("<question"):
            asked = text
        elif tag.startswith("<triple") and asked is not None and text.count("|||") == 2:
            questions.append((asked, triple(text)))
            asked = None
        elif not tag.startswith("<answer") and tag.strip("= "):
            raise SystemExit(
                f"{path}, line {number}: expected <question id=N> TAB text, then <triple id=N> TAB "
                f"entity ||| relation ||| object, or <answer id=N> TAB text, got {line[:80]!r}."
            )
    return questions


def triple(text):
    """(entity, relation, object) of `entity ||| relation ||| object`."""
    if text.count("|||") != 2:
        raise ValueError(f"expected entity ||| relation ||| object, got {text!r:.80}")
    return tuple(part.strip() for part in text.split("|||"))


def from_questions(samples):
    """Entries of all triples, and in each question the mention of its entity."""
    facts, linked = {}, {}
    for split, rows in samples.items():
        linked[split] = []
        for question, (entity, relation, value) in rows:
            if entity:
                facts.setdefault(entity.lower(), (entity, []))[1].append((relation, value))
            if entity and (span := mention_of(name_of(entity), question)):
                linked[split].append((question, [(*span, entity.lower())]))
    total, kept = (sum(map(len, rows.values())) for rows in (samples, linked))
    print(f"{total - kept} of {total} questions left out: they have nothing of their entity's name")
    entries = [
        entry(number, [name_of(entity), entity], [("名称", entity), *known])
        for number, (entity, known) in facts.items()
    ]
    return entries, linked


def name_of(entity):
    """`三国（2010年高希希执导电视剧）` is called 三国."""
    return re.sub(r"(?<=.)[（(][^（()）]*[）)]$", "", entity)


def mention_of(name, text):
    """Where a name is in a text, `(start, end)`: the longest run of characters they share."""
    lower = text.lower() if len(text.lower()) == len(text) else text  # some letters become two
    run = SequenceMatcher(None, lower, name.lower(), autojunk=False).find_longest_match()
    return (run.a, run.a + run.size) if run.size >= min(SHORTEST, len(name)) else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", help="with the files of a data set")
    parser.add_argument("output", help="directory for what task_entity_linking.py reads")
    args = parser.parse_args()
    entries, samples = load(args.directory)
    save(args.output, entries, samples)
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in samples.items())
    print(f"{len(entries)} entries; texts: {sizes}; written to {args.output}")
