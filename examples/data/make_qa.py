"""Write qa/*.json beside this script: passages, answers, questions, in the form of DuReader-QG.

    python make_qa.py            # write the files
    python make_qa.py --check    # only say whether they are what this script writes

A passage tells of two people, of each another thing, and is asked about both. A fixed seed gives the same
bytes on every machine.
"""

import json

from make_sample import SLOTS, Random, main

# what is told | what is asked = the answer
FACTS = """{name}是一名{job}。|{name}的工作是什么？=job
{name}住在{city}。|{name}住在哪里？=city
{name}早上吃{staple}。|{name}早上吃什么？=staple
{name}喜欢喝{drink}。|{name}喜欢喝什么？=drink
{name}养了一只{animal}。|{name}养了什么？=animal
{name}最喜欢的水果是{fruit}。|{name}最喜欢什么水果？=fruit
{name}正在学{skill}。|{name}正在学什么？=skill
{name}坐{near}去上班。|{name}怎么去上班？=near
{name}会做{dish}。|{name}会做什么菜？=dish
{name}把{item}忘在家里了。|{name}忘了什么？=item""".splitlines()
NAMES = SLOTS["man"] + SLOTS["woman"]


def samples(rng):
    """DuReader-QG's lines, without their numbers: all questions on a passage, one after another."""
    while True:
        told, asked = [], []
        for name, fact in zip(rng.sample(NAMES, 2), rng.sample(FACTS, 2), strict=True):
            sentence, rest = fact.split("|")
            question, gap = rest.split("=")
            answer = rng.choice(SLOTS[gap])
            told.append(sentence.format_map({"name": name, gap: answer}))
            asked.append((answer, question.format(name=name)))
        for answer, question in asked:
            yield {"context": "".join(told), "answer": answer, "question": question}


def qa_files():
    """The text of every file, by name."""
    rows = samples(Random(20240722))
    files = {}
    for split, size in (("train", 1200), ("valid", 100), ("test", 100)):
        lines = [json.dumps(next(rows) | {"id": i}, ensure_ascii=False) for i in range(size)]
        files[f"qa/{split}.json"] = "\n".join(lines) + "\n"
    return files


if __name__ == "__main__":
    main(qa_files)
