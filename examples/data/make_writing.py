"""Write the sample data of the examples that write: news, papers, problems, couplets.

    python make_writing.py            # write the files
    python make_writing.py --check    # only say whether they are what this script writes

The sentences are written here, with gaps. A fixed seed gives the same bytes on every machine.
"""

import json
import re
import sys

from make_sample import HERE, SLOTS, Random, fill, main

sys.path.append(str(HERE.parent))
from arithmetic import value

# --- news: a headline, "=", what is always told; then, after "|", sentences of which some are told --

NEWS = """{city}{flower}节开幕=本报讯，{when}，{city}市一年一度的{flower}节正式开幕。|各地游客冒雨前来。|园内{flower}竞相开放，香气扑鼻。|主办方准备了上百种{flower}。|活动将持续{num}天。
{city}下月起调整{bill}=记者从{city}市政府获悉，从下个月开始，当地的{bill}将作调整。|不少市民表示理解。|新的标准已经在网上公布。|有关部门解释了调整的原因。
{man}夺得{city}{sport}比赛冠军=在{city}举行的全国{sport}比赛{when}结束，选手{man}以明显优势夺冠。|比赛吸引了众多观众。|他赛后感谢了教练和家人。|决赛打得十分激烈。
{city}到{city2}的高铁通车=连接{city}和{city2}的高速铁路{when}正式通车。|两地的路程缩短为{num}个小时。|首班列车座无虚席。|沿线群众载歌载舞庆祝。
{city}发布大雨预警=气象部门{when}发布消息，{city}未来几天有大雨，请注意防范。|学校已经停课。|市民应减少外出。|河水上升较快。
{fruit}价格上升=受天气影响，各地市场上的{fruit}供应减少，价格明显上升。|一斤{fruit}卖到{num}块钱。|店主说，再过半个月会好一些。|很多人改买别的水果。
{fruit}喜获丰收=今年雨水充足，{city}的{fruit}又大又甜，果农们迎来丰收。|村里的小路上停满了货车。|有人在网上卖{fruit}，一天卖出上千斤。|专家到田间作了指导。
{city}新建{num}座博物馆=为丰富市民的文化生活，{city}计划在三年内建成{num}座博物馆。|其中一座展出古代铜器。|门票全部免费。|有关方案正在征求意见。
{job}{man}获表扬=从事本职工作二十年的{job}{man}{when}受到{city}市表扬。|同事们说他做事认真。|他把奖金捐给了学校。|会上还介绍了他的故事。
{city}举行{hobby}大赛=由{city}市文化馆主办的{hobby}大赛{when}举行，上千人报名。|年纪最小的选手只有六岁。|获奖作品将公开展出。|评委对选手的水平表示赞赏。
{city}动物园{animal}走失=据{city}动物园介绍，园里的一只{animal}{when}走失，工作人员正在寻找。|园方请市民提供线索。|它身上有一个红色的圈。|这已经不是第一次。
医生提醒：{part}疼要重视=最近因为{part}疼到医院看病的人多了起来，医生说要及时检查。|长时间看手机是主要原因。|平时应多运动。|有的人拖了半年才来。"""

PAPERS = """{method}在{field}中的应用=针对{field}中存在的问题，引入了{method}，给出了具体的步骤。|实验结果表明，该方法是有效的。|最后讨论了今后的研究方向。|又与传统的做法作了比较。
基于{method}的{field}研究=为了提高{field}的效果，提出了一种以{method}为基础的新方案。|首先分析了现有方案的不足。|计算结果与实际情况一致。|该方案简单可行。
{factor}对{crop}{outcome}的影响=目的：探讨{factor}与{crop}{outcome}的关系。|方法：选取一百个样本，分为两组。|结果：两组之间有明显差异。|结论：应当引起重视。
{crop}{outcome}的变化规律=在{city}连续五年观察了{crop}，记录了{outcome}随时间的变化。|春季和秋季的差别最大。|数据用统计方法作了处理。|结果可以为生产提供参考。
{city}地区{crop}种植的现状与对策=通过实地调查，总结了{city}一带种植{crop}的基本情况，分析了问题，提出了对策。|主要问题是技术落后。|应当加大投入。|农民的收入有所提高。
{method}的改进算法=分析了{method}计算慢的原因，给出了一种改进的算法。|新算法的时间减少了一半。|用{num}个例子作了验证。|程序已经公开。
{subject}教学中{skill}的作用=结合多年的经验，说明了把{skill}引入{subject}课堂的意义和方法。|学生的兴趣明显提高。|教师也要不断学习。|作者对三所中学作了调查。
{material}的制备与性能=以常见的原料在高温下得到了{material}，测定了它的性能。|温度是关键的因素。|样品的强度提高了两成。|产品已用于建筑。"""

PAPER_SLOTS = {
    "method": "神经网络 遗传算法 模糊控制 小波变换 数据挖掘 有限元法 回归分析 决策树 图像识别 动态规划",
    "field": "设备维修 交通管理 天气预报 语音识别 风险评价 水资源分配 机器人导航 医学图像处理 电力系统规划 网络安全",
    "factor": "温度 光照 土壤水分 施肥量 播种期 海拔高度 降雨量",
    "crop": "土豆 小麦 玉米 大豆 棉花 油菜 花生",
    "outcome": "产量 品质 根系生长 开花时间 病虫害",
    "material": "纳米氧化铁 导电玻璃 玻璃纤维 轻质混凝土 多孔陶瓷 生物塑料 高强度合金",
}
PAPER_SLOTS = {name: words.split() for name, words in PAPER_SLOTS.items()}


def title_and_text(line, rng, slots):
    """A title, and a text with two of the sentences that may be told."""
    title, text = line.split("=")
    first, *more = text.split("|")
    filled = fill("|".join([title, first, *rng.sample(more, 2)]), rng, slots)
    title, *sentences = filled.split("|")
    return title, "".join(sentences)


def news(rng):
    title, text = title_and_text(rng.choice(NEWS.splitlines()), rng, SLOTS)
    return json.dumps({"title": title, "content": text}, ensure_ascii=False)


def paper(rng):
    title, text = title_and_text(rng.choice(PAPERS.splitlines()), rng, SLOTS | PAPER_SLOTS)
    return json.dumps({"title": title, "abst": text}, ensure_ascii=False)


# --- problems: a text with numbers, "=", an expression; %: percent, /: a fraction ------------------

PROBLEMS = """{boy}有{a}个{fruit}，又买了{b}个，现在有多少个{fruit}？=a+b
{elder}买来{a}个{fruit}，吃了{b}个，还剩多少个？=a-b
一斤{fruit}{b}元，买{a}斤要多少元？=a*b
把{a}本书平均分给{b}个同学，每人多少本？=a/b
果园里有{a}棵桃树，梨树比桃树多{b}棵，梨树有多少棵？=a+b
果园里有{a}棵桃树，梨树比桃树少{b}棵，梨树有多少棵？=a-b
果园里有{a}棵桃树，梨树是桃树的{b}倍，两种树合起来有多少棵？=a+a*b
一辆汽车每小时行{a}千米，{b}小时行多少千米？=a*b
一辆汽车{b}小时行了{a}千米，平均每小时行多少千米？=a/b
一本书有{a}页，{boy}每天看{b}页，看了{c}天，还剩多少页没看？=a-b*c
学校买了{b}盒粉笔，每盒{a}元，又买了一个{c}元的足球，花了多少元？=a*b+c
一件衣服原价{a}元，打折后便宜了{p}%，现在卖多少元？=a*(1-p%)
{boy}家上月用电{a}度，这个月节约了{p}%，节约了多少度？=a*p%
一根绳子长{a}米，用去全长的({f}/{g})，用去多少米？=a*(f/g)
一袋大米{a}千克，吃了({f}/{g})，还剩多少千克？=a*(1-(f/g))
一个长方形长{a}分米，宽{b}分米，周长是多少分米？=(a+b)*2
一个长方形长{a}分米，宽{b}分米，面积是多少平方分米？=a*b
正方形的边长是{b}米，它的面积是多少平方米？=b**2
甲每小时做{b}个零件，乙每小时做{c}个，两人合作{d}小时，能做多少个？=(b+c)*d
{city}到{city2}有{a}千米，一列火车已经行了{b}小时，每小时行{c}千米，还有多少千米？=a-b*c"""


def problem(rng):
    text, expression = rng.choice(PROBLEMS.splitlines()).split("=")
    b, c, d, f = (rng.between(2, 6) for _ in range(4))
    numbers = {
        "a": rng.between(1, 9) * 840 if "/" in expression else rng.between(90, 400),
        "b": b,
        "c": c + 9,
        "d": d,
        "p": 5 * rng.between(1, 9),
        "f": f - 1,
        "g": f + rng.between(0, 2),
    }
    numbers = {name: str(number) for name, number in numbers.items()}
    expression = re.sub("[a-g]|p(?=%)", lambda letter: numbers[letter[0]], expression)
    return json.dumps(
        {
            "original_text": fill(text, rng, **numbers),
            "ans": f"{float(value(expression)):.10g}",
            "equation": f"x={expression}",
        },
        ensure_ascii=False,
    )


# --- couplets: words that answer each other, by what stands where ----------------------------------

ANSWERS = {
    "noun": "春风 秋月|青山 绿水|红梅 青松|明月 清风|江南 塞北|花香 鸟语|白云 碧海|红日 晚霞|古寺 新城|高楼 小院|"
    "杨柳 荷花|燕子 喜鹊|细雨 轻烟|诗书 琴画|千山 万水|山河 日月|花园 竹海|流水 行云|渔舟 牧笛|大地 长空",
    "verb": "迎 送|开 落|来 去|飞 舞|吹 照|绿 红|醉 醒|生 起|满 盈|入 出|传 报|动 摇",
    "thing": "客 人|花 草|雪 霜|酒 茶|梦 心|酒香 茶味|人家 世界|福到 春来|千家 万户|百花 群鸟|佳节 新年|乡音 酒令",
}
ANSWERS = {kind: [pair.split() for pair in pairs.split("|")] for kind, pairs in ANSWERS.items()}
SHAPES = [("noun", "verb", "thing"), ("noun", "noun", "verb", "thing"), ("noun", "thing", "verb")]


def couplet(rng):
    """Two lines; each word of the first is answered at its place, by the same word everywhere."""
    while True:
        pairs = [rng.choice(ANSWERS[kind]) for kind in rng.choice(SHAPES)]
        flipped = rng.chance(0.5)
        first, second = ("".join(pair[place ^ flipped] for pair in pairs) for place in (0, 1))
        if len(set(first + second)) == 2 * len(first):  # no character twice
            return first, second


# --- files -----------------------------------------------------------------------------------------


def writing_files():
    """The text of every file, by name."""
    rng, files = Random(20261121), {}

    def splits(folder, make, size, ending):
        known = set()
        for split, rows in (("train", size), ("valid", 100), ("test", 100)):
            new = []
            while len(new) < rows:
                row = make(rng)
                if row not in known:
                    known.add(row)
                    new.append(row)
            files[f"{folder}/{split}{ending}"] = new

    splits("news", news, 800, ".json")
    splits("papers", paper, 800, ".json")
    splits("problems", problem, 1000, ".json")
    splits("couplets", couplet, 1600, "")
    files["couplets/train"] += files.pop("couplets/valid")  # given out with two splits
    for split in ("train", "test"):
        pairs = files.pop(f"couplets/{split}")
        for name, lines in zip(("in", "out"), zip(*pairs, strict=True), strict=True):
            files[f"couplets/{split}/{name}.txt"] = [" ".join(line) for line in lines]
    return {name: "\n".join(lines) + "\n" for name, lines in files.items()}


if __name__ == "__main__":
    main(writing_files)
