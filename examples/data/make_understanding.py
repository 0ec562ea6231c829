"""Write headlines/*.json and inference/*.json beside this script: news with keywords, as TNEWS's, and
pairs of sentences of which one follows from the other, contradicts it or neither, as OCNLI's.

    python make_understanding.py            # write the files
    python make_understanding.py --check    # only say whether they are what this script writes

A fixed seed gives the same bytes on every machine.
"""

import json

from make_sample import Random, main
from make_similar import DEEDS, PEOPLE, TIMES, draw

# the class, what it is about, and what is said of that
CLASSES = """体育|篮球 足球 羽毛球 乒乓球 游泳 马拉松 滑冰 排球|主队赢了最后一场 教练换了打法 老将回到赛场 球迷等了一夜
财经|股票 基金 银行 利率 物价 税收 黄金 保险|今天又升了一点 专家劝大家小心 公司公布了去年的账 价格跌到三年最低
科技|手机 电脑 机器人 芯片 卫星 软件 网络 相机|新一代产品今天发布 速度快了一倍 研究人员找到了新办法 用户抱怨太贵
教育|高考 小学 大学 老师 作业 考试 课本 学费|家长有不同的看法 新学期有了变化 学生说压力小了 报名下周开始
汽车|轿车 卡车 电动车 方向盘 发动机 车展 驾照 油价|新款车型开到了路上 车主发现了毛病 试开之后这样评价 价格低得让人吃惊
旅游|古镇 海边 雪山 温泉 导游 酒店 机票 景点|假期里人山人海 本地人才知道的路线 门票要降价了 一家人玩了三天
娱乐|电影 歌手 演员 导演 电视剧 演唱会 综艺 明星|票房超过了前一部 在台上哭了 网上吵了一整天 新作品下个月上映
房产|房价 小区 中介 租金 楼盘 装修 物业 贷款|买的人越来越少 开发商推迟了交房 住户联名写信 城东比城西贵一半"""
PLACES = ["北京", "上海", "广州", "成都", "杭州", "武汉", "西安", "南京", "青岛", "长沙"]
# says nothing about the class
VAGUE = [
    "这件事你怎么看",
    "终于有了结果",
    "让人没有想到",
    "三个问题说清楚",
    "谁说了算",
    "这一次不一样",
    "大家都在等",
    "记者去看了看",
]
SUBJECTS = [
    (name, words.split(), said.split())
    for name, words, said in (line.split("|") for line in CLASSES.splitlines())
]
FEELINGS = [
    "很高兴",
    "有点累",
    "打算以后天天这样",
    "是为了朋友",
    "是第一次",
    "花了不少钱",
    "后来又后悔了",
    "和邻居约好的",
]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def headline(label, rng):
    """A third of the headlines does not say what it is about: the keywords do."""
    name, words, said = SUBJECTS[label]
    topic, other = rng.sample(words, 2)
    place = rng.choice(PLACES)
    if rng.chance(1 / 3):
        sentence = f"{place}：{rng.choice(VAGUE)}"
    elif rng.chance(0.5):
        sentence = f"{place}{topic}：{rng.choice(VAGUE)}"
    else:
        sentence = f"{rng.choice(['', place])}{topic}：{rng.choice(said)}"
    keywords = ",".join(rng.sample([topic, other, place], 2))
    return {"label": str(label), "label_des": name, "sentence": sentence, "keywords": keywords}


def inference(label, rng):
    """Of someone who did something at some time: the same, the opposite, or something more.

    Half of the pairs give themselves away in the second sentence, as in real data; in the others
    only who did what tells.
    """
    who, when, (topic, deed) = draw(rng)
    first, second = (rng.choice(PEOPLE[who]) for _ in "12")
    done, again = (rng.choice(DEEDS[topic][deed]) for _ in "12")
    stranger = rng.choice(rng.choice([x for i, x in enumerate(PEOPLE) if i != who]))
    instead = rng.choice(DEEDS[topic][(deed + 1) % len(DEEDS[topic])])
    telling, silent = {
        "entailment": (f"有人{again}", f"{second}{done}"),
        "contradiction": (f"没有人{again}", f"{second}{instead}"),
        "neutral": (f"{second}{rng.choice(FEELINGS)}", f"{stranger}{again}"),
    }[label]
    premise = f"{first}{rng.choice(TIMES[when])}{done}"
    hypothesis = telling if rng.chance(0.5) else silent
    return {"sentence1": f"{premise}。", "sentence2": f"{hypothesis}。", "label": label}


def files():
    """The text of every file, by name; no row of a file is in another."""
    rng = Random(20241105)
    made = {
        "headlines/labels.json": lines(
            {"label": str(i), "label_des": name} for i, (name, *_) in enumerate(SUBJECTS)
        )
    }
    for folder, make, labels, sizes in (
        ("headlines", headline, range(len(SUBJECTS)), (480, 320)),
        ("inference", inference, ("entailment", "neutral", "contradiction"), (900, 300)),
    ):
        known = set()
        for split, size in zip(("train", "dev"), sizes, strict=True):
            rows = []
            while len(rows) < size:
                row = make(labels[len(rows) % len(labels)], rng)
                key = json.dumps(row, ensure_ascii=False)
                if key not in known:
                    known.add(key)
                    rows.append(row)
            made[f"{folder}/{split}.json"] = lines(rows)
    return made


if __name__ == "__main__":
    main(files)
