"""Write linking/ beside this script: a knowledge base and texts, in the form of CCKS 2019.

    python make_linking.py            # write the files
    python make_linking.py --check    # only say whether they are what this script writes

Most names belong to two or three entries, one of which is met more often than the others; the text
around a name tells which one is meant. Some names are everyday words too (春天), and where they
are, nothing is to be linked. A fixed seed gives the same bytes on every machine.
"""

import json

from make_labeling import PARTS, title
from make_sample import Random, fill, main

# kind | type | what its entry says | what texts say of it
KINDS = """医生|Person|{name}，医生，{city}人，在医院给病人看病。|{name}给病人看病，又忙了一夜。|昨天在医院，{name}说手术很顺利。|病人都夸{name}，说他的药很有用
球员|Person|{name}，足球运动员，{city}人，在国家队踢球。|{name}在比赛中进了两个球。|{name}踢球的时候受了伤，离开球队休息。|教练让{name}下一场比赛上场
歌手|Person|{name}，歌手，{city}人，出版过许多歌曲。|{name}的新歌很好听。|我们去听{name}唱歌，嗓子都喊哑了。|{name}唱了三首歌，观众一直鼓掌
教师|Person|{name}，教师，{city}人，在学校教{subject}。|{name}上课很有意思，学生都喜欢。|{name}在学校教书二十年了。|{name}批改作业到很晚
小说|Work|《{name}》，长篇小说，作者是{city}人。|昨天读完了《{name}》，写得真好。|这本《{name}》我看了两遍。|图书馆里借不到《{name}》
电影|Work|《{name}》，电影，在{city}拍摄。|《{name}》的票房很高，影院坐满了人。|《{name}》的导演和主演都来了。|晚上去影院看《{name}》
歌曲|Work|《{name}》，流行歌曲，歌手在{city}录音。|大家一起唱《{name}》。|收音机里放着《{name}》，真好听。|她弹着钢琴，唱了一首《{name}》"""
KINDS = [line.split("|") for line in KINDS.split("\n")]
PEOPLE, WORKS = KINDS[:4], KINDS[4:]

# names of works that are words too, and where they are words
WORDS = {
    "春天": "{city}的春天来了，{flower}都开了。|春天适合出去走走。",
    "城市": "这个城市的冬天很冷。|他想去一个大城市工作。",
    "河流": "两条河流在这里汇合。|{city}附近有很多河流。",
    "故乡": "他的故乡在{city}。|离开故乡已经十年了。",
    "秘密": "这是我们两个人的秘密。|他把秘密告诉了{person}。",
}
JOINED = ("；", "，", "。后来")  # between two clauses of a text
SIZE = 1000


def knowledge_base(rng):
    """The entries, in CCKS's form, and name -> kinds with their entries, the most met first."""
    names = {}
    while len(names) < 45:
        name = rng.choice(PARTS["surnames"]) + "".join(rng.sample(PARTS["given"], 1))
        names[name] = rng.sample(PEOPLE, rng.between(1, 3))
    while len(names) < 75:
        names[title(rng)] = rng.sample(WORKS, rng.between(1, 3))
    names |= {name: rng.sample(WORKS, rng.between(1, 2)) for name in WORDS}
    rows, meant = [], {}
    for name, kinds in names.items():
        for kind in kinds:
            word, group, told, *_ = kind
            city = rng.choice(PARTS["cities"])
            summary = fill(told, rng, name=name, city=city)
            data = {"摘要": summary, "类别": word, "地点": city}
            number = str(10001 + len(rows))
            rows.append(
                {
                    "alias": [f"{city}{word}{name}"] if rng.chance(0.3) else [],
                    "subject_id": number,
                    "subject": name,
                    "type": [group],
                    "data": [{"predicate": p, "object": o} for p, o in data.items()],
                }
            )
            meant.setdefault(name, []).append((kind, number))
    return rows, meant


def texts(meant, rng):
    """CCKS's lines, without their numbers."""
    plain = [(name, clause) for name, clauses in WORDS.items() for clause in clauses.split("|")]
    while True:
        text, mentions = "", []
        for name in rng.sample([*meant], rng.between(1, 2)):
            entries = meant[name]
            kind, number = entries[0] if rng.chance(0.5) else rng.choice(entries)
            clause = rng.choice(kind[3:]).rstrip("。")
            text += rng.choice(JOINED) if text else ""
            offset = len(text) + clause.index("{name}")
            mentions.append({"kb_id": number, "mention": name, "offset": str(offset)})
            text += clause.format(name=name)
        text += "。"
        if rng.chance(0.3):
            text += fill(rng.choice(plain)[1], rng)
        yield {"text": text, "mention_data": mentions}


def linking_files():
    """The text of every file, by name."""
    rng, known = Random(20240723), {}
    rows, meant = knowledge_base(rng)
    drawn = texts(meant, rng)
    while len(known) < SIZE:
        row = next(drawn)
        known.setdefault(row["text"], {"text_id": str(len(known) + 1)} | row)
    files = {"linking/kb_data": rows, "linking/train.json": known.values()}
    return {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, rows in files.items()
    }


if __name__ == "__main__":
    main(linking_files)
