"""Write the sample data of the classics and of long texts beside this script: reviews, long, cloze, kinds.

    python make_classic.py            # write the files
    python make_classic.py --check    # only say whether they are what this script writes

Words and sentences are those of `fragments.py`, and those below. A fixed seed gives the same bytes
on every machine.
"""

import re

from make_sample import SLOTS, Lexicon, Random, daily, main, sentiment_set, weather

# --- reviews: train and test with the same words, so that nothing need be known before ------------


def reviews(rng):
    rows = sentiment_set(1200, Lexicon((0, 1)), rng, known="")
    return {"train": rows[:800], "valid": rows[800:950], "test": rows[950:]}


# --- long texts: what tells the label comes late -----------------------------------------------------


def long_texts(rng):
    """Reviews of a few clear words, each behind so many sentences that tell nothing of it."""
    rows = []
    for row in sentiment_set(700, Lexicon((0,)), rng, known=""):
        before = ""
        while len(before) < 40:
            before += "".join(rng.sample(weather(rng) + daily(rng), 3))
        rows.append(before + row)
    return {"train": rows[:450], "valid": rows[450:550], "test": rows[550:]}


# --- cloze: a story with a blank, whose word stands elsewhere in it ----------------------------------

STORY = """{boy} 和 {girl} 住 在 {city} ， 每天 一起 上学 。
{weekday} ， {boy} 和 {girl} 去 了 {venue} 。
{venue} 里 开 满 了 {flower} ， 非常 漂亮 。
{girl} 摘 了 一 朵 {flower} ， 戴 在 头 上 。
{boy} 带 了 一 把 {item} ， 放 在 书包 里 。
{girl} 带 了 几 个 {fruit} ， 准备 中午 吃 。
走 到 门口 ， 他们 看见 一 只 {animal} 。
那 只 {animal} 一直 跟 着 他们 ， 不 肯 走 。
{animal} 闻 了 闻 {fruit} ， 一口 吃 了 下去 。
中午 ， 他们 坐 在 树 下 ， 吃 了 {fruit} ， 喝 了 {drink} 。
{girl} 不 爱 喝 {drink} ， 只 喝 了 一点 。
回家 的 路上 ， {boy} 发现 {item} 不见 了 。
原来 {item} 忘 在 {venue} 里 了 。
他们 又 回到 {venue} ， 在 椅子 下面 找到 了 {item} 。
{girl} 给 那 只 {animal} 画 了 一 张 画 。
妈妈 说 ， {city} 的 {venue} 很 有名 。
从 {city} 来 的 客人 也 喜欢 {flower} 。
{boy} 把 {drink} 倒 在 杯子 里 ， 请 大家 喝 。""".splitlines()
BLANK = "XXXXX"


def story(rng):
    """The sentences of a passage, the number of the one with the blank, and its word."""
    while True:
        # few words, so that each is met often
        gaps = dict.fromkeys(re.findall(r"\{(\w+)\}", " ".join(STORY)))
        words = {gap: rng.choice(SLOTS[gap][:10]) for gap in gaps}
        chosen = set(rng.sample(range(len(STORY)), 6))
        sentences = [line for i, line in enumerate(STORY) if i in chosen]  # in their order
        gaps = [
            (i, gap) for i, line in enumerate(sentences) for gap in re.findall(r"\{\w+\}", line)
        ]
        i, gap = rng.choice(gaps)
        if sum(gap in line for line in sentences) > 1:
            sentences[i] = sentences[i].replace(gap, BLANK)
            return [line.format_map(words) for line in sentences], i, words[gap.strip("{}")]


def cloze(rng):
    """The files of the iFLYTEK cup: numbered sentences, the one to fill again, and the answers."""
    known, splits = set(), {}
    for split, size in (("train", 400), ("valid", 60), ("test", 120)):
        questions, answers = [], []
        while len(answers) < size:
            sentences, i, word = story(rng)
            text = "".join(f"{n} ||| {line}\n" for n, line in enumerate(sentences, 1))
            if text not in known:
                known.add(text)
                number = f"<qid_{len(answers)}> ||| "
                questions.append(f"{text}{number}{sentences[i]}\n")
                answers.append(f"{number}{word}\n")
        splits[split] = {"doc_query": "".join(questions), "answer": "".join(answers)}
    return splits


# --- kinds: words that belong together --------------------------------------------------------------

KINDS = "city fruit veg drink staple item job flower part weekday subject hobby sport elder meat"


def kinds():
    """A kind a line: its words, single ones for a segmenter as well."""
    return "".join(" ".join(w for w in SLOTS[kind] if len(w) < 3) + "\n" for kind in KINDS.split())


# --- files -----------------------------------------------------------------------------------------


def classic_files():
    """The text of every file, by name."""
    rng, files = Random(20240801), {"kinds.txt": kinds()}
    for directory, rows_of in (("reviews", reviews), ("long", long_texts)):
        for split, rows in rows_of(rng).items():
            files[f"{directory}/sentiment.{split}.tsv"] = "\n".join(rows) + "\n"
    for split, parts in cloze(rng).items():
        for kind, text in parts.items():
            files[f"cloze/{split}.{kind}"] = text
    return files


if __name__ == "__main__":
    main(classic_files)
