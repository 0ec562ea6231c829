"""Write the sample data beside this script: corpus, vocabulary, sentiment and matching sets.

    python make_sample.py            # write the files
    python make_sample.py --check    # only say whether they are what this script writes

Everything is put together from `fragments.py` with a fixed seed: the same bytes on every machine.
"""

import argparse
import random
import re
import string
import sys
from pathlib import Path

import fragments as f

HERE = Path(__file__).resolve().parent
SLOTS = {name: words.split() for name, words in f.SLOTS.items()}
ADVERBS = ("很", "非常", "真的很", "挺", "确实很")
POLAR_ADVERBS = {True: ("格外", "特别", "十分", "相当"), False: ("太", "实在太", "过于", "未免太")}
CLOSINGS = ("", "", "总之，", "总的来说，", "一句话，", "总体感觉，")
OPENINGS = ("", "先说结论，", "说实话，", "不得不说，")


class Random(random.Random):
    """Draws through `random()` alone, whose sequence Python promises to keep across versions."""

    def choice(self, items):
        return items[int(self.random() * len(items))]

    def sample(self, items, k):
        return sorted(items, key=lambda _: self.random())[:k]

    def chance(self, share):
        return self.random() < share

    def between(self, low, high):
        return low + int(self.random() * (high - low + 1))


def fill(template, rng, slots=SLOTS, **bound):
    """Replace each `{slot}` by a word; `{slot}` and `{slot2}` get different words of one list."""

    def word(match):
        name = match[1]
        if name not in bound:
            taken = bound.values()
            bound[name] = rng.choice([w for w in slots[name.rstrip("2")] if w not in taken])
        return bound[name]

    return re.sub(r"\{(\w+)\}", word, template)


def fill_lines(texts, rng, **bound):
    """Fill the lines of one document, the same word for the same slot in all of them."""
    return fill("|".join(texts), rng, **bound).split("|")


def of_either_sex(texts, rng):
    """Stories are written about a boy or a man; in half of them it is a girl or a woman."""
    if rng.chance(0.5) or any("{woman}" in t or "{girl}" in t for t in texts):
        return texts
    swap = {"{boy}": "{girl}", "{man}": "{woman}", "{man2}": "{woman2}", "他": "她"}
    if not any(slot in t for t in texts for slot in ("{boy}", "{man}")):
        return texts
    return [re.sub("{boy}|{man2?}|他(?!们)", lambda m: swap[m[0]], t) for t in texts]


# --- reviews -------------------------------------------------------------------------------------


class Lexicon:
    """Opinions by polarity, from one or both of the two halves of `fragments.py`.

    `halves` says which: 0 for the words that the labelled train split may use, 1 for those that
    only the corpus and the other splits use. `polar_adverbs` is the share of adverbs that go with
    praise or with blame alone; labelled texts have none of them, as they would give it away.
    """

    def __init__(self, halves, polar_adverbs=0.0):
        self.polar_adverbs = polar_adverbs
        self.aspects = {
            domain: [self._aspect(line, halves) for line in review["aspects"]]
            for domain, review in f.REVIEWS.items()
        }
        self.general = self._by_polarity(
            [field.split() for line in f.GENERAL for field in line.split("|")], halves
        )
        self.verdicts = self._by_polarity([line.split("|") for line in f.VERDICTS], halves)

    @staticmethod
    def _by_polarity(fields, halves):
        return {
            good: [word for half in halves for word in fields[(0 if good else 2) + half]]
            for good in (True, False)
        }

    def _aspect(self, line, halves):
        name, *fields = line.split("|")
        return name, self._by_polarity([field.split() for field in fields], halves)

    def clause(self, aspect, good, rng):
        """What one aspect is like, e.g. 房间非常宽敞, 房间不够宽敞, 说到隔音，夜里静悄悄的."""
        name, words = aspect
        if rng.chance(0.8):
            words = self.general
        if rng.chance(0.04):
            plain = [w for w in words[not good] if len(w) > 1 and w[0] not in "!~"]
            if plain:
                denials = ("一点也不", "完全不") if good else ("不够", "算不上", "谈不上")
                return name + rng.choice(denials) + rng.choice(plain)
        word = rng.choice(words[good])
        if word.startswith("~"):
            return rng.choice(("说到{}，{}", "{}呢，{}", "至于{}，{}")).format(name, word[1:])
        if word.startswith("!"):
            return name + word[1:]
        polar = rng.chance(self.polar_adverbs)
        return name + rng.choice(POLAR_ADVERBS[good] if polar else ADVERBS) + word

    def sentence(self, aspects, good, rng):
        *clauses, last = [self.clause(aspect, good, rng) for aspect in aspects]
        if clauses:
            last = rng.choice(("", "", "而且", "另外")) + last
        return "，".join([*clauses, last])

    def mixed(self, aspects, good, rng):
        """虽然 (the other polarity)，但是 (this one)."""
        first, second = rng.choice((("虽然", "但是"), ("虽说", "不过"), ("尽管", "可是")))
        return (
            f"{first}{self.clause(aspects[0], not good, rng)}，"
            f"{second}{self.clause(aspects[1], good, rng)}"
        )

    def verdict(self, good, rng):
        return rng.choice(CLOSINGS) + rng.choice(self.verdicts[good])


def review(lexicon, rng):
    domain = rng.choice(sorted(f.REVIEWS))
    subjects, openings = (f.REVIEWS[domain][key] for key in ("subject", "opening"))
    good = rng.chance(0.5)
    aspects = rng.sample(lexicon.aspects[domain], rng.between(4, 5))
    lines = []
    if rng.chance(0.5):
        lines.append(fill(rng.choice(openings.split("|")), rng))
    if rng.chance(0.4):
        lines.append(rng.choice(OPENINGS) + rng.choice(lexicon.verdicts[good]))
    if rng.chance(0.1):
        lines.append(lexicon.mixed(aspects[:2], good, rng))
        aspects = aspects[2:]
    elif rng.chance(0.5):
        lines.append(rng.choice(subjects.split()) + "的" + lexicon.sentence(aspects[:1], good, rng))
        aspects = aspects[1:]
    while aspects:
        # short lines, so that what is said of a thing and the verdict stand close together
        n = 1 if rng.chance(0.8) else 2
        verdict = "，" + rng.choice(lexicon.verdicts[good]) if n == 1 else ""
        lines.append(lexicon.sentence(aspects[:n], good, rng) + verdict)
        aspects = aspects[n:]
    if rng.chance(0.9):
        lines.append(lexicon.verdict(good, rng))
    return [line.replace("的说到", "，说到").replace("的至于", "，至于") + "。" for line in lines]


def opinion(lexicon, good, rng):
    """A labelled text: one to three clauses, and often a verdict."""
    aspects = rng.sample(lexicon.aspects[rng.choice(sorted(f.REVIEWS))], 3)
    if rng.chance(0.15):
        return f"{lexicon.mixed(aspects, good, rng)}，{rng.choice(lexicon.verdicts[good])}。"
    text = lexicon.sentence(aspects[: rng.between(1, 3)], good, rng)
    if rng.chance(0.4):
        text += "，" + rng.choice(lexicon.verdicts[good])
    return text + "。"


def sentiment_set(size, lexicon, rng, known):
    """Rows `text TAB label`, half of them good, no text of which is in `known`."""
    rows = []
    while len(rows) < size:
        good = len(rows) % 2 == 0
        text = opinion(lexicon, good, rng)
        if text[:-1] not in known and text not in (row.split("\t")[0] for row in rows):
            rows.append(f"{text}\t{int(good)}")
    return rng.sample(rows, size)


# --- facts ---------------------------------------------------------------------------------------


def capitals(rng):
    pairs = [line.split() for line in f.CAPITALS.split("|")]
    chosen = rng.sample(pairs, 6)
    if rng.chance(0.5):
        chosen[0] = pairs[0]
    return [
        fill(
            rng.choice(("{a}的首都是{b}。", "{a}的首都是{b}。", "{b}是{a}的首都。")), rng, a=a, b=b
        )
        for a, b in chosen
    ]


def provinces(rng):
    forms = ("{a}的省会是{b}。", "{b}是{a}的省会。", "{a}省简称{c}，省会是{b}。")
    rows = [line.split() for line in f.PROVINCES.split("|")]
    return [fill(rng.choice(forms), rng, a=a, b=b, c=c) for a, b, c in rng.sample(rows, 6)]


def antonyms(rng):
    forms = ("{a}的反义词是{b}。", "“{a}”的反义词是“{b}”。", "{a}和{b}是一对反义词。")
    pairs = [line.split() for line in f.ANTONYMS.split("|")]
    return [fill(rng.choice(forms), rng, a=a, b=b) for a, b in rng.sample(pairs, 7)]


def idioms(rng):
    forms = ("“{a}”的意思是{b}。", "成语“{a}”比喻{b}。", "人们用{a}来形容{b}。")
    pairs = [line.split("|") for line in f.IDIOMS.splitlines()]
    return [fill(rng.choice(forms), rng, a=a, b=b) for a, b in rng.sample(pairs, 4)]


def jobs_or_tools(rng):
    things = rng.choice((f.JOBS, f.TOOLS)).split("|")
    return ["".join(thing.split()) + "。" for thing in rng.sample(things, 6)]


def knowledge(rng):
    group = rng.choice([line for line in f.FACTS.splitlines() if line]).split("|")
    chosen = set(rng.sample(group, 5))
    return [fact for fact in group if fact in chosen]


def facts(rng):
    return rng.choice((capitals, provinces, antonyms, idioms, jobs_or_tools) + (knowledge,) * 5)(
        rng
    )


# --- everyday life -------------------------------------------------------------------------------

TEMPERATURES = {"小雪": ("零下六", "二"), "大雪": ("零下十", "零下一"), "雾": ("五", "十二")}
NORTHERN = ("北京", "哈尔滨", "沈阳", "长春", "济南", "太原", "兰州", "西安")


def weather(rng):
    sky = rng.choice(f.WEATHER["sky"].split())
    low, high = TEMPERATURES.get(sky) or rng.choice(
        (
            ("八", "十七"),
            ("十二", "二十"),
            ("十六", "二十四"),
            ("二十", "二十八"),
            ("二十三", "三十一"),
        )
    )
    bound = {"sky": sky, "low": low, "high": high}
    if "雪" in sky or sky == "沙尘":
        bound["city"] = rng.choice(NORTHERN)
    return [
        fill(rng.choice(f.WEATHER["opening"].split("|")), rng, **bound),
        *rng.sample(f.WEATHER[sky].split("|"), 2),
        fill(rng.choice(f.WEATHER["closing"].split("|")), rng),
    ]


def recipe(rng):
    name, *steps = rng.choice(f.RECIPES.splitlines()).split("|")
    return [rng.choice(("{}的做法很简单。", "今天教大家做{}。", "{}怎么做？")).format(name), *steps]


def travel(rng):
    body = [line for text in f.TRAVEL["body"].splitlines() for line in text.split("|")]
    body = rng.sample(body, rng.between(3, 4))
    bound = {}
    if rng.chance(0.7):
        cities = rng.choice(sorted(f.TRAVEL["places"]))
        bound["city"] = rng.choice(cities.split())
        body += rng.sample(f.TRAVEL["places"][cities].split("|"), 2)
    opening, closing = (rng.choice(f.TRAVEL[k].split("|")) for k in ("opening", "closing"))
    lines = [opening, *rng.sample(body, len(body)), closing]
    return [fill(lines[0], rng, **bound), *(fill(line, rng) for line in lines[1:])]


def story(rng):
    return fill_lines(of_either_sex(rng.choice(f.STORIES.splitlines()).split("|"), rng), rng)


def dialogue(rng):
    return fill_lines(rng.choice(f.DIALOGUES.splitlines()).split("|"), rng)


def daily(rng):
    lines = [line for text in f.DAILY.splitlines() for line in text.split("|")]
    return [fill(of_either_sex([line], rng)[0], rng) for line in rng.sample(lines, 5)]


# --- questions -----------------------------------------------------------------------------------


def topics():
    """A topic is a list of meanings, and a meaning the ways to ask it and the answer."""
    return [
        [(line.split("=")[0].split("|"), line.split("=")[1]) for line in block.splitlines()]
        for block in f.QUESTIONS.split("\n\n")
    ]


# The corpus and the labelled train split ask about some things, the other splits about others.
TRAIN_SLOTS = {name: words[::2] for name, words in SLOTS.items()}
TEST_SLOTS = {name: words[1::2] for name, words in SLOTS.items()}


def questions(rng):
    """Questions and answers as on a help page: one meaning asked in several ways, its answer."""
    lines = []
    for asked, answer in rng.sample(rng.choice(topics()), 2):
        lines += [*rng.sample(asked, rng.between(2, 3)), answer]
    return fill("|".join(lines), rng, TRAIN_SLOTS).split("|")


def matching_pair(same, slots, rng):
    """Two questions in similar words: of the same meaning, or not, or not about the same thing."""
    meaning, other = (asked for asked, _ in rng.sample(rng.choice(topics()), 2))
    first, second = rng.sample(meaning, 2)
    slot = re.search(r"\{([a-z]+)\}", first)
    if not same:
        if slot and "2}" not in first and rng.chance(0.25):
            second = second.replace(slot[0], f"{{{slot[1]}2}}")
        else:
            second = rng.choice(other)
    return fill(f"{first}|{second}", rng, slots).split("|")


def matching_set(size, slots, rng, known, pairs):
    """Rows `text TAB text TAB label`, half of them the same.

    No text is in `known` and no pair in `pairs`, to which the new ones are added.
    """
    rows = []
    while len(rows) < size:
        same = len(rows) % 2 == 0
        pair = matching_pair(same, slots, rng)
        if frozenset(pair) not in pairs and not known & set(pair):
            pairs.add(frozenset(pair))
            rows.append("\t".join([*pair, str(int(same))]))
    return rng.sample(rows, size)


# --- files ---------------------------------------------------------------------------------------

# bytes of each genre in the corpus
GENRES = {
    facts: 170_000,
    weather: 25_000,
    recipe: 14_000,
    travel: 45_000,
    story: 40_000,
    dialogue: 30_000,
    daily: 60_000,
    questions: 120_000,
}
REVIEW_BYTES = 480_000
PUNCTUATION = "，。！？；：、·…—“”‘’（）《》〈〉【】「」『』～￥％＋－＝／＆＠＃＊．"


def documents(write, size, rng):
    """Documents of a genre, `size` bytes of them; none twice as long as there are new ones."""
    seen, total = set(), 0
    while total < size:
        lines = write(rng)
        text = "\n".join(lines) + "\n"
        if text in seen and rng.chance(0.9):
            continue
        seen.add(text)
        total += len(text.encode())
        yield text


def corpus(rng):
    both = Lexicon((0, 1), polar_adverbs=0.8)
    texts = list(documents(lambda rng: review(both, rng), REVIEW_BYTES, rng))
    for write, size in GENRES.items():
        texts += documents(write, size, rng)
    return "\n".join(rng.sample(texts, len(texts)))


def vocabulary(texts):
    """Rows of a BERT vocabulary: special tokens, characters by code point, pieces of words."""
    special = [
        "[PAD]",
        *(f"[unused{i}]" for i in range(1, 11)),
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    ascii_characters = string.digits + string.ascii_letters + string.punctuation
    characters = {*texts, *f.EXTRA_CHARACTERS, *PUNCTUATION, *ascii_characters} - set(" \t\n")
    pieces = [f"##{c}" for c in string.digits + string.ascii_lowercase]
    return "\n".join([*special, *sorted(characters), *pieces]) + "\n"


def sample_files():
    """The text of every file, by name."""
    rng = Random(20240501)
    files = {"corpus.txt": corpus(rng)}

    known = files["corpus.txt"].replace("\n", "")
    for split, size, half in (("train", 300, 0), ("valid", 300, 1), ("test", 400, 1)):
        rows = sentiment_set(size, Lexicon((half,)), rng, known)
        known += "\n".join(rows)
        files[f"sentiment.{split}.tsv"] = "\n".join(rows) + "\n"

    known, pairs = set(), set()
    for split, size, slots in (
        ("train", 1500, TRAIN_SLOTS),
        ("valid", 300, TEST_SLOTS),
        ("test", 300, TEST_SLOTS),
    ):
        rows = matching_set(size, slots, rng, known, pairs)
        files[f"matching.{split}.tsv"] = "\n".join(rows) + "\n"
        known = set(re.split("[\t\n]", files["corpus.txt"] + files["matching.train.tsv"]))

    files["vocab.txt"] = vocabulary("".join(files.values()))
    return files


def main(sample_files=sample_files):
    """Write the files that differ from what `sample_files()` gives, or only name them."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    changed = []
    for name, text in sample_files().items():
        path, content = HERE / name, text.encode()
        if not path.exists() or path.read_bytes() != content:
            changed.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    if check and changed:
        sys.exit(f"not what {Path(sys.argv[0]).name} writes: {', '.join(changed)}")
    print("unchanged" if not changed else f"written: {', '.join(changed)}")


if __name__ == "__main__":
    main()
