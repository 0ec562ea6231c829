"""Write sohu/ beside this script: pairs of short and long news, as in the Sohu 2021 contest.

    python make_sohu.py            # write the files
    python make_sohu.py --check    # only say whether they are what this script writes

News tell of an event of a topic. Class A asks whether two are on one topic, class B whether they
are on one event, so that most pairs have one label in A and another in B. A long text says what
happened in any of its sentences; the others could stand in many news. A fixed seed gives the same
bytes on every machine.
"""

import json

from make_sample import Random, fill, main

# Topics, each a block: what is said in any news of it, then an event a line: ways to tell it.
TOPICS = """现场来了很多球迷，非常热闹。|教练说，队员们训练很刻苦。|比赛在晚上七点开始。|观众一直喊着加油。
{city}队在足球比赛中赢得冠军|足球决赛结束，{city}队夺冠|捧起奖杯，{city}队是足球冠军
足球比赛中前锋受伤，被抬出场外|{city}队前锋腿部受伤，离开足球比赛|医生说，足球前锋的伤要休息三个月
足球队换了新教练|{city}足球队宣布，新教练上任|新教练来了，{city}足球队重新开始

司机们请绕道行驶。|交通警察在路口忙了一天。|行人过马路要小心。|记者在现场看到，车辆排成长龙。
高速公路上两车相撞|{city}高速公路发生撞车，两辆车损坏|撞车以后，高速公路堵了两个小时
{city}地铁二号线今天开通|坐地铁更方便了，二号线开始运行|新的地铁线开通，市民排队体验
大雪封路，公路关闭|因为下雪，{city}的公路不能通行|雪太大，公路上的车辆停了下来

专家建议，要按时吃饭、早点睡觉。|医生提醒大家注意身体。|护士们忙了一整天。|家属在门外等候。
医院免费检查眼睛|{city}医院请市民来免费检查视力|看眼睛不要钱，医院的活动受欢迎
孩子发烧，流行感冒又来了|{city}进入感冒高发期，发烧的人增加|感冒的病人多了，医院里排队看发烧
新药上市，药价下降|{city}降低药价，看病更便宜|药便宜了，一盒药只要十块钱

导演说，拍摄用了一年。|影院里坐满了人。|主演和观众见面，回答问题。|很多人看完以后流下眼泪。
电影票房超过一千万|上映三天，这部电影票房过千万|票房第一，电影收入千万
老演员去世，享年八十岁|观众怀念去世的老演员|{city}的影迷为老演员送行，他昨天去世
电影节在{city}开幕|到场的明星很多，电影节开幕了|电影节今天开始，开幕片受到好评

老师们参加了活动。|家长们很关心这件事。|学校的操场上很安静。|同学们都说很有收获。
高考今天结束，考生走出考场|{city}的考生考完了，高考结束|两天的高考结束，考生松了一口气
小学生种树，校园变绿|{city}的小学生在山上种树|植树节到了，学生们去种树
大学发出录取通知|{city}的大学录取通知今天寄出|收到录取通知，新生很高兴

商场经理接受了采访。|市民说，买东西要货比三家。|店员正在整理货架。|收银台前排着队。
猪肉价格升高|菜场里猪肉贵了，价格高了两成|{city}的猪肉卖得更贵，顾客买得少了
手机新款开售，顾客排队|{city}的商店里，新手机开始卖了|排了一夜的队，他买到新手机
假酒被查，商店关门|{city}的商店卖假酒，被警察查到|警察在仓库里查出上千瓶假酒"""

# what any news may say
COMMON = (
    "详细情况还在了解之中。",
    "记者从有关部门得知了这个消息。",
    "这件事引起了大家的关注。",
    "更多的消息，我们会继续报道。",
    "不少人在网上留言。",
    "有人高兴，也有人担心。",
    "本报记者今天上午来到现场。",
    "请大家互相转告。",
)
FOLDERS = {"短短": (False, False), "短长": (False, True), "长长": (True, True)}
SIZES = {"train": 160, "valid": 60, "test": 60}


def topics():
    """For each topic what is said in any of its news, and the ways to tell each event."""
    for block in TOPICS.split("\n\n"):
        said, *events = [line.split("|") for line in block.split("\n")]
        yield said, events


def news(topic, event, way, long, rng):
    """A headline, or sentences among which is one that tells the event."""
    said, events = topic
    told = fill(events[event][way], rng)
    if not long:
        return rng.choice(("", "", "快讯：", "今日：")) + told
    sentences = [*rng.sample(said, 2), *rng.sample(COMMON, 2)]
    sentences = rng.sample(sentences, 4)
    sentences.insert(rng.between(0, 4), told + "。")
    return "".join(sentences)


def pairs(kind, longs, rng):
    """(source, target, label): 2 in 5 on one topic (A) or event (B), else on none in common (A),
    or on another event of the topic (B, mostly)."""
    known = list(topics())
    while True:
        topic, other = rng.sample(known, 2)
        event, another = rng.sample(range(3), 2)
        way, second = rng.sample(range(3), 2)
        same = rng.chance(0.4)
        if kind == "A":
            target = (topic, rng.between(0, 2)) if same else (other, event)
        elif same:
            target = topic, event
        else:
            target = (topic, another) if rng.chance(0.7) else (other, event)
        source = news(topic, event, way, longs[0], rng)
        yield source, news(*target, second, longs[1], rng), int(same)


def sohu_files():
    """The text of every file, by name."""
    rng, files, known = Random(20240721), {}, set()
    for length, longs in FOLDERS.items():
        for kind in "AB":
            drawn = pairs(kind, longs, rng)
            for split, size in SIZES.items():
                lines = []
                while len(lines) < size:
                    source, target, label = next(drawn)
                    if (source, target) not in known:
                        known.add((source, target))
                        row = {"source": source, "target": target, f"label{kind}": str(label)}
                        lines.append(json.dumps(row, ensure_ascii=False))
                files[f"sohu/{length}匹配{kind}类/{split}.txt"] = "\n".join(lines) + "\n"
    return files


if __name__ == "__main__":
    main(sohu_files)
