"""Write the sample data of reading comprehension, in the form of CMRC 2018, beside this script.

    python make_reading.py            # write the files
    python make_reading.py --check    # only say whether they are what this script writes

Passages tell, in any order, some facts of a person, a shop or a village; the sentences are written
here, with gaps. A fixed seed gives the same bytes on every machine.
"""

import json

from make_sample import SLOTS, Random, fill, main

# what is told of: an opening; then, a line each, a fact: the slot of the answer, sentences, questions
TOPICS = """{man}是我的邻居，今年{tens}岁。
city=他出生在@。|他的老家在@。=他是哪里人？|他的老家在什么地方？
job=年轻的时候，他是一名@。|他做了很多年@。=他的职业是什么？|他从事什么工作？
hobby=他平时喜欢@。|一有空，他就@。=他有什么爱好？|空闲的时候他喜欢做什么？
sport=为了健康，他天天@。|每天早上，他都要@。=他怎样锻炼身体？|他靠什么保持健康？
dish=他最拿手的菜是@。|客人来了，他总做@。=他最会做什么菜？|他用什么菜招待客人？
drink=饭后他总要喝一杯@。|他离不开@。=他饭后喝什么？|他爱喝什么？
pet=他养了一只@。|陪着他的是一只@。=他养了什么动物？|陪着他的是什么？
potted=窗台上，他种的@开了。|他的阳台上种着@。=他种了什么花？|阳台上种着什么？

街口新开了一家商店，叫{vip}之家。
clock=商店@开门。|每天@，大门就打开了。=商店几点开门？|什么时候可以进去？
fruit=卖得最好的是@。|大家都来买@。=什么卖得最好？|大家来买什么？
color=招牌是@的。|墙刷成了@。=招牌是什么颜色？|墙是什么颜色？
hundreds=第一天来了@个客人。|开业那天卖了@块钱。=第一天来了多少客人？|开业那天卖了多少钱？
woman=店主叫@。|这家店是@开的。=店主是谁？|这家店是谁开的？
gift=买满一百元，送一份@。|办会员卡可以得到@。=买满一百元送什么？|办会员卡可以得到什么？
near=到那里去，可以坐@。|门前就有@。=怎么去那里？|门前有什么车？
weekday=每个@，东西打八折。|店里@休息。=哪一天打折？|店里什么时候休息？

{city}城外有一个小村子，住着几百户人家。
veg=村民们主要种@。|田里到处是@。=村民种什么？|田里有什么？
flower=春天，山坡上开满了@。|村口有一大片@。=山坡上开什么花？|村口有什么花？
animal=孩子们喜欢和@玩。|林子里常常看到@。=孩子们和什么玩？|林子里能看到什么？
far=要去省城，得坐@。|进城最快的是@。=怎么去省城？|进城坐什么最快？
subject=村里的小学缺一位@老师。|新来的老师教@。=小学缺什么老师？|新来的老师教什么？
meat=过年的时候，家家都吃@。|节日的饭桌上少不了@。=过年吃什么？|节日的饭桌上有什么？
staple=早饭一般是@。|村里人早上爱吃@。=早饭一般吃什么？|村里人早上吃什么？
skill=冬天没有事，大家就学@。|村里办了@班。=冬天大家学什么？|村里办了什么班？"""


def paragraph(rng, number):
    """A passage of five facts, and questions about two of them."""
    opening, *facts = rng.choice(TOPICS.split("\n\n")).split("\n")
    passage, asked = fill(opening, rng), []
    for place, fact in enumerate(rng.sample(facts, 5)):
        slot, sentences, questions = fact.split("=")
        way = rng.between(0, 1)
        answer = rng.choice(SLOTS[slot])
        before, after = sentences.split("|")[way].split("@")
        start = len(passage) + len(before)
        passage += before + answer + after
        if place in (1, 3):
            asked.append((questions.split("|")[way], answer, start))
    name = f"SAMPLE_{number}"
    return {
        "id": name,
        "context": passage,
        "qas": [
            {
                "question": question,
                "id": f"{name}_QUERY_{i}",
                "answers": [{"text": answer, "answer_start": start}],
            }
            for i, (question, answer, start) in enumerate(asked)
        ],
    }


def reading_files():
    """The text of every file, by name."""
    rng, files, number = Random(20261122), {}, 0
    for split, size in (("train", 500), ("valid", 50), ("test", 50)):
        paragraphs = [paragraph(rng, number + i) for i in range(size)]
        number += size
        lines = (json.dumps({"paragraphs": [p]}, ensure_ascii=False) for p in paragraphs)
        data = ",\n".join(lines)
        files[f"reading/{split}.json"] = f'{{"version": "v1.0", "data": [\n{data}\n]}}\n'
    return files


if __name__ == "__main__":
    main(reading_files)
