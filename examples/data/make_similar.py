"""Write sts/*.txt beside this script: pairs of sentences and how like they mean, 0 to 5, as STS-B's.

    python make_similar.py            # write the files
    python make_similar.py --check    # only say whether they are what this script writes

A fixed seed gives the same bytes on every machine.
"""

from make_sample import Random, main

# Who did what when: "|" parts the things, "=" the ways to say one. A line of `TOPICS` is a topic.
WHO = """妈妈=母亲=我妈|爷爷=祖父=我家老爷子|老师=教师=教我们的先生|医生=大夫=给人看病的人|孩子=小朋友=小孩
邻居=隔壁的人家=住在对门的人|警察=民警=派出所的人|同学=同班的人=一起上课的人|老板=经理=公司的领导|司机=开车的师傅=驾驶员"""
WHEN = """早上=清晨=天刚亮的时候|中午=正午=吃午饭那会儿|晚上=夜里=天黑以后|周末=星期六和星期日=不上班的那两天|上个月=前一个月=三十天以前"""
TOPICS = """在公园跑步=绕着公园慢跑=到公园里跑了几圈|在泳池游泳=去泳池里游了几圈=下水游了一个小时|在操场打篮球=和人在球场上投篮=到操场玩篮球
在厨房做饭=下厨炒了几个菜=在炉子前忙着烧菜|去饭馆吃饭=在餐厅里用餐=到外面的馆子吃了一顿|去市场买菜=到菜场挑选蔬菜=在集市上称了几斤萝卜白菜
坐火车去北京=乘列车前往北京=坐高铁到北京|坐飞机去上海=乘航班前往上海=飞到了上海|开车回老家=自己驾车回到家乡=把车开回了故乡
在图书馆看书=坐在图书馆里读书=到图书馆翻了几本书|参加数学考试=做了一张数学卷子=去考场考数学|在家写作业=待在家里做功课=在书桌前完成练习
打扫房间=把屋子收拾干净=在家里扫地擦桌子|修好了电视=把坏的电视机弄好了=让电视又能看了|洗了一堆衣服=把脏衣服都洗干净=用洗衣机洗衣裳
买了一部手机=换了新的手机=在店里挑了一台手机|买了一件大衣=添了一件厚外套=去商场选了一件大衣|给朋友挑礼物=为好友选一份礼品=想着送朋友什么东西
去医院看病=到医院找人诊断=因为不舒服去了医院|按时吃药=照着说明服药=把药片吃了下去|打了一针=在护士那里打针=胳膊上挨了一针
在家弹钢琴=坐在琴前弹了一首曲子=练习钢琴|去影院看电影=买票看了一部片子=坐在影院里看新上映的电影|跟着音乐唱歌=拿着话筒唱了一首歌=大声唱起歌来
牵着狗散步=带小狗出去转转=和狗一起出门走走|给猫喂食=喂小猫吃鱼=往猫的碗里倒吃的|在河边钓鱼=坐在岸上等鱼来吃=到水边钓起几条鱼
开了一个会=召集大家开会=在会议室里讨论事情|写了一份报告=把报告写完交了=赶着写总结材料|加班到很晚=留在公司干活没有走=下班以后还在工作"""
# said with any of it, and beside the point
BEFORE = ("", "", "听说", "我记得", "我看见", "大家都知道", "跟你说一件事，", "没想到")
AFTER = ("", "", "，真有意思", "，我也是刚知道的", "，大家都这么说", "，这很平常", "，你觉得怎么样")


def parse(line):
    """The things of a line, each a list of the ways to say it."""
    return [thing.split("=") for thing in line.split("|")]


PEOPLE, TIMES = parse(WHO.replace("\n", "|")), parse(WHEN)
DEEDS = [parse(line) for line in TOPICS.splitlines()]


def draw(rng):
    """Who, when, and a topic and what of it is done: numbers of things."""
    topic = rng.between(0, len(DEEDS) - 1)
    return (
        rng.between(0, len(PEOPLE) - 1),
        rng.between(0, len(TIMES) - 1),
        (topic, rng.between(0, len(DEEDS[topic]) - 1)),
    )


def changed(scene, rng):
    """Another scene, more or less like this one."""
    who, when, (topic, deed) = (rng.choice(parts) for parts in zip(scene, draw(rng), strict=True))
    if (topic, deed) != scene[2] and rng.chance(0.5):  # something of the same topic
        topic, deed = scene[2]
        deed = (deed + rng.between(1, 2)) % len(DEEDS[topic])
    return who, when, (topic, deed)


def sentence(scene, rng):
    who, when, (topic, deed) = scene
    subject = rng.sample([rng.choice(PEOPLE[who]), rng.choice(TIMES[when])], 2)
    words = [rng.choice(BEFORE), *subject, rng.choice(DEEDS[topic][deed]), rng.choice(AFTER)]
    return "".join(words) + "。"


def likeness(scene, other):
    """5: the same. 4 or 3: the same done, by another or at another time. 2 or 1: something like
    it. 0: something else, whoever did it."""
    same_person, same_time, same_deed = (a == b for a, b in zip(scene, other, strict=True))
    if same_deed:
        return 3 + same_person + same_time
    return 1 + same_person if scene[2][0] == other[2][0] else 0


def sts_files(sizes=(("train", 900), ("dev", 300), ("test", 400))):
    """The text of every file, by name; no sentence of a file is in another."""
    rng = Random(20240603)
    files, known = {}, set()
    for split, size in sizes:
        rows, new = [], set()
        while len(rows) < size:
            scene = draw(rng)
            other = changed(scene, rng)
            pair = sentence(scene, rng), sentence(other, rng)
            if pair[0] != pair[1] and not known & set(pair):
                new |= set(pair)
                rows.append(f"{pair[0]}\t{pair[1]}\t{likeness(scene, other)}\n")
        known |= new
        files[f"sts/{split}.txt"] = "".join(rows)
    return files


if __name__ == "__main__":
    main(sts_files)
