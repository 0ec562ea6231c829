"""Write the sample data of sequence labelling beside this script: entities, words, triples.

    python make_labeling.py            # write the files
    python make_labeling.py --check    # only say whether they are what this script writes

The sentences are written here, with gaps; the names that fill the gaps are put together from
characters, so that a test meets hardly any name of the training. A fixed seed gives the same bytes
on every machine.
"""

import json
import re

from make_sample import TEST_SLOTS, TRAIN_SLOTS, Random, main

# --- names -----------------------------------------------------------------------------------------

PARTS = {
    "surnames": "王 李 张 陈 杨 黄 赵 周 吴 徐 孙 马 朱 胡 林 郭 何 高 罗 郑 梁 谢 宋 唐 许 韩 冯 曹 欧阳 司马",
    "given": "伟 芳 娜 敏 静 强 军 洋 勇 艳 杰 涛 明 超 秀 霞 平 刚 桂 文 辉 玲 建 国 华 春 梅 雪 宁 思 远 嘉 雨 晨 浩 天 佳 欣 志",
    "cities": "北京 上海 广州 深圳 成都 重庆 杭州 南京 武汉 西安 苏州 天津 长沙 青岛 大连 厦门 昆明 哈尔滨 沈阳 济南 郑州 合肥 福州 南昌",
    "brands": "华 盛 远 宏 达 安 泰 金 龙 星 海 天 瑞 丰 恒 信 东 方 新 创 联 科 明 德 智 云 光 通",
    "trades": "软件 电子 食品 服装 汽车 地产 物流 传媒 能源 医药 机械 网络 建材 旅游",
    "school_ends": "大学 师范大学 理工大学 医学院 外国语学院 第一中学 实验小学 音乐学院",
    "offices": "人民医院 博物馆 图书馆 交响乐团 足球俱乐部 消费者协会 气象局 法院 红十字会 作家协会",
    "presses": "人民 文艺 少年儿童 教育 科学技术 美术 古籍",
    "streets": "人民 解放 中山 建设 和平 长江 黄河 春风 桃园 青年 文化 胜利 滨海",
    "street_ends": "路 大街 巷 大道",
    "title_heads": "沉默 遥远 最后 孤独 金色 蓝色 悠长 失落 温柔 看不见 不眠 第七个 一个人 午夜 被遗忘",
    "title_tails": "灯塔 河流 春天 城市 夏天 证人 森林 来信 故乡 岛 战争 列车 影子 歌 秘密 冬夜 邻居",
    "positions": "总经理 董事长 工程师 主任 讲师 编剧 记者 院长 校长 队长 主教练 会计 副经理 助理 首席设计师 秘书长 厨师长 主持人",
}
PARTS = {name: words.split() for name, words in PARTS.items()}
PARTS["company_ends"] = ["公司", "集团", "有限公司", "股份有限公司", "", ""]


def person(rng):
    return rng.choice(PARTS["surnames"]) + "".join(rng.sample(PARTS["given"], rng.between(1, 2)))


def company(rng):
    brand = "".join(rng.sample(PARTS["brands"], 2))
    city = rng.choice(PARTS["cities"]) if rng.chance(0.4) else ""
    return city + brand + rng.choice(PARTS["trades"]) + rng.choice(PARTS["company_ends"])


def school(rng):
    return rng.choice(PARTS["cities"]) + rng.choice(PARTS["school_ends"])


def office(rng):
    return rng.choice(PARTS["cities"]) + rng.choice(PARTS["offices"])


def press(rng):
    return rng.choice(PARTS["cities"]) + rng.choice(PARTS["presses"]) + "出版社"


def street(rng):
    place = rng.choice(PARTS["cities"]) + "市" if rng.chance(0.5) else ""
    number = f"{rng.between(1, 300)}号" if rng.chance(0.5) else ""
    return place + rng.choice(PARTS["streets"]) + rng.choice(PARTS["street_ends"]) + number


def title(rng):
    head, (tail, tail2) = rng.choice(PARTS["title_heads"]), rng.sample(PARTS["title_tails"], 2)
    return rng.choice((f"{head}的{tail}", f"{tail}与{tail2}", f"{tail}之{tail2}"))


# how a gap is filled, and the type of what stands in it
GAPS = {
    "person": (person, "name"),
    "company": (company, "company"),
    "school": (school, "organization"),
    "office": (office, "organization"),
    "press": (press, "organization"),
    "city": (lambda rng: rng.choice(PARTS["cities"]), "address"),
    "street": (street, "address"),
    "book": (title, "book"),
    "film": (title, "movie"),
    "position": (lambda rng: rng.choice(PARTS["positions"]), "position"),
    "year": (lambda rng: str(rng.between(1950, 2024)), None),
}

# --- sentences with entities and triples -----------------------------------------------------------
# After "|": what the sentence says of its gaps, "subject predicate object".

SENTENCES = """《{book}》是{person}写的长篇小说，{year}年由{press}出版。|book 作者 person|book 出版社 press
{person}先后写了《{book}》和《{book2}》。|book 作者 person|book2 作者 person
{person2}昨天读完了{person}的小说《{book}》，觉得结尾很意外。|book 作者 person
《{book}》由{person}和{person2}合写，{press}出版。|book 作者 person|book 作者 person2|book 出版社 press
{press}最近推出了散文集《{book}》，作者{person}曾是{office}的{position}。|book 出版社 press|book 作者 person
电影《{film}》由{person}执导，{person2}和{person3}主演。|film 导演 person|film 主演 person2|film 主演 person3
《{film}》{year}年上映，导演是{person}。|film 导演 person
{person}自编自导了电影《{film}》，剧本改编自{person2}的小说《{book}》。|film 导演 person|book 作者 person2
{person2}在{person}的新片《{film}》里演一位{position}。|film 导演 person|film 主演 person2
影片《{film}》和《{film2}》的导演都是{person}。|film 导演 person|film2 导演 person
{person}{year}年出生于{city}，毕业于{school}。|person 出生地 city|person 毕业院校 school
{person}和{person2}都毕业于{school}。|person 毕业院校 school|person2 毕业院校 school
{person}，{city}人，{year}年从{school}毕业后到{city2}工作。|person 出生地 city|person 毕业院校 school
从{school}毕业以后，{person}在{company}当了{position}。|person 毕业院校 school
{company}是{person}{year}年在{city}创办的，总部至今没有搬。|company 创始人 person|company 总部地点 city
{person}创办了{company}和{company2}。|company 创始人 person|company2 创始人 person
总部在{city}的{company}今天宣布，{person}不再担任{position}。|company 总部地点 city
{company}的总部从{city2}搬到了{city}，创始人{person}没有出席仪式。|company 总部地点 city|company 创始人 person
{person}的父亲{person2}是{school}的{position}。|person 父亲 person2
{person2}是{person}的父亲，也是《{book}》的作者。|person 父亲 person2|book 作者 person2
{person}和妻子{person2}住在{street}。|person 妻子 person2
{person2}嫁给{person}以后，两人一起开了{company}。|person 妻子 person2|company 创始人 person|company 创始人 person2
{person}的妻子{person2}毕业于{school}，现在是{company}的{position}。|person 妻子 person2|person2 毕业院校 school
{person2}出生在{city}，父亲{person}是{office}的{position}。|person2 出生地 city|person2 父亲 person
记者{person}在{street}采访了{company}的{position}{person2}。
{office}的{position}{person}说，这次活动在{street}举行。
{person}，{company}{position}，上周五到了{city}。
昨天下午，{person}和{person2}在{street}的一家饭馆见面。
{company}和{company2}签了合同，{office}派人参加。
{person}在{school}门口等了很久，手里拿着一本《{book}》。
看完《{film}》，{person}说演{position}的那个人最好。
《{film}》的票房超过了《{film2}》。
请把信寄到{street}，{person}收。
{city}的冬天很冷，{city2}的夏天很热。
{office}昨天请{person}讲了怎样写小说。
{position}们都认为，{company}今年会更好。""".splitlines()


def labelled(template, rng):
    """A sentence, its entities `(type, start, end)`, and its triples of words."""
    sentence, *triples = template.split("|")
    text, entities, words = "", [], {}
    for piece in re.split(r"(\{\w+\})", sentence):
        gap = piece.strip("{}")
        if gap == piece:
            text += piece
            continue
        write, kind = GAPS[gap.rstrip("23")]
        while gap not in words:
            word = write(rng)
            if word not in words.values():
                words[gap] = word
        if kind:
            entities.append((kind, len(text), len(text) + len(words[gap])))
        text += words[gap]
    triples = [(words[s], p, words[o]) for s, p, o in map(str.split, triples)]
    return text, entities, triples


def entity_lines(rng):
    """CLUENER's format: for each type the mentions, for each its first and last characters."""
    while True:
        text, entities, _ = labelled(rng.choice(SENTENCES), rng)
        label = {}
        for kind, start, end in entities:
            label.setdefault(kind, {}).setdefault(text[start:end], []).append([start, end - 1])
        yield json.dumps({"text": text, "label": label}, ensure_ascii=False)


def triple_lines(rng):
    """DuIE's format, of one or two sentences that say something."""
    telling = [sentence for sentence in SENTENCES if "|" in sentence]
    while True:
        parts = [labelled(rng.choice(telling), rng) for _ in range(rng.between(1, 2))]
        spo_list = [
            {"subject": s, "predicate": p, "object": o} for part in parts for s, p, o in part[2]
        ]
        row = {"text": "".join(part[0] for part in parts), "spo_list": spo_list}
        yield json.dumps(row, ensure_ascii=False)


# --- words -----------------------------------------------------------------------------------------
# Gaps are single words of `fragments.SLOTS`, one half of them for training, the other for the rest.

WORDS = """{city} 的 {flower} 开 了 ，{person} 和 {person2} 一起 去 看 。
{weekday} {daytime} ，{person} 在 {scenery} 看见 一 只 {animal} 。
{person} 想 学 {hobby} ，可是 没有 时间 。
{elder} 从 {city} 带 回来 两 斤 {fruit} 。
请问 去 {venue} 要 坐 几 路 车 ？
{person} 的 {item} 忘 在 {venue} 里 了 。
听说 {city} 的 {dish} 很 有名 ，我们 明天 去 吃 吧 。
做 {dish} 的 时候 ，要 先 放 {veg} ，再 放 {meat} 。
{color} 的 {item} 比 {color2} 的 好看 。
研究生 们 正在 研究 生物 ，他们 的 生活 很 简单 。
{job} 和 {job2} 都 住 在 {city} 。
{man} 长大 以后 想 当 {job} 。
{woman} 把 {goods} 放 在 桌子 上 ，就 出门 了 。
{house} 租 给 了 {man} ，一个月 付 一次 钱 。
从 {city} 到 {city2} 坐 {far} 只要 {num} 个 小时 。
{person} 不 喝 {drink} ，只 喝 {drink2} 。
他 说 的 确实 很 有 道理 ，{person} 也 这么 想 。
{subject} 老师 说 ，{subject2} 也 很 重要 。
{person} 打开 {app} ，看 了 看 今天 的 消息 。
{elder} 每天 {daytime} 都 要 吃 一 碗 {staple} 。
{when} 我们 在 {scenery} 拍 了 很多 照片 。
{person} 过生日 ，{person2} 送 给 他 一 个 {gift} 。
这 家 店 的 {dish} 和 {staple} 都 不错 。
办 {paper} 要 带 什么 ？
{man} 家 的 {pet} 喜欢 吃 {meat} ，不 喜欢 吃 {veg} 。
把手 坏 了 ，{person} 找 了 {job} 来 修 。
{person} 把 手 放 在 口袋 里 ，慢慢 地 走 。
天气 这么 热 ，{city} 人 都 爱 吃 {fruit} 。
{person} 的 {part} 疼 ，{job} 让 他 多 休息 。
{potted} 要 放 在 有 阳光 的 地方 。""".splitlines()


def word_lines(slots, rng):
    """SIGHAN's format: words parted by spaces. Two sentences a line."""
    # phrases among the words of a gap are none
    slots = {name: [w for w in words if len(w) < 4] for name, words in slots.items()}
    while True:
        line = []
        for template in rng.sample(WORDS, 2):
            bound = {}
            for gap in re.findall(r"\{(\w+)\}", template):
                taken = bound.values()
                bound[gap] = rng.choice([w for w in slots[gap.rstrip("2")] if w not in taken])
            line.append(re.sub("([，。？])", r" \1 ", template).format_map(bound))
        yield " ".join(" ".join(line).split())


# --- files -----------------------------------------------------------------------------------------


def labeling_files():
    """The text of every file, by name."""
    rng, files, known = Random(20240601), {}, set()

    def write(name, lines, size):
        """Files the first of the lines that are not in another file already."""
        new = []
        while len(new) < size:
            line = next(lines)
            if line not in known:
                known.add(line)
                new.append(line)
        files[name] = "\n".join(new) + "\n"

    for split, size in (("train", 500), ("valid", 100), ("test", 200)):
        slots = TRAIN_SLOTS if split == "train" else TEST_SLOTS
        write(f"entities/{split}.json", entity_lines(rng), size)
        write(f"words/{split}.txt", word_lines(slots, rng), size)
        # what a text tells is harder to learn than where a name stands
        write(f"triples/{split}.json", triple_lines(rng), 2 * size if split == "train" else size)
    return files


if __name__ == "__main__":
    main(labeling_files)
