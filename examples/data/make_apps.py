"""Write apps/*.json beside this script: descriptions of apps in sixteen categories, as IFLYTEK's.

    python make_apps.py            # write the files
    python make_apps.py --check    # only say whether they are what this script writes

A fixed seed gives the same bytes on every machine.
"""

import json

from make_sample import Random, main

# a category a line: its name | what such an app does | what only the descriptions in dev say of it
CATEGORIES = """打车|一键呼叫附近的出租车,司机几分钟就到楼下,实时查看车辆的位置,上车前就知道大概的车费,拼车更省钱|夜里叫车也放心,可以提前预约接送机,行程能分享给家人,顺风车顺路送你回家,专车司机很有礼貌
地图导航|输入地点就能规划路线,语音提示前方路口左转右转,避开拥堵的路段,没有网络也能看离线地图,查找周围的加油站和停车场|提醒你前面有测速,走错路会重新计算,公交换乘一看就懂,步行和骑车的走法都有,三维实景看清立交桥
天气|未来十五天的天气预报,每小时更新温度和湿度,大雨台风及时预警,空气质量和紫外线一目了然,根据气温建议穿什么衣服|出门前看看要不要带伞,雷达图显示雨云往哪里走,日出日落的时间也有,降温的时候提醒添衣,有雾的日子建议少开窗
记账|随手记下每一笔收入和支出,自动生成每月的账单,图表看清钱花在哪里,设置预算不再超支,多个账户统一管理|工资和报销分开算,家人一起管好钱袋子,信用卡还款日准时通知,存钱计划一步步完成,一年省下多少一查便知
外语学习|每天背二十个单词,真人发音跟着读,听力和语法专项练习,按照记忆曲线安排复习,四级六级词汇全部收录|和外国老师对话练口语,看美剧学英语,拍一下就能翻译句子,日语韩语从字母学起,测一测你的词汇量
菜谱|上万道家常菜的做法,每一步都有图片和视频,按食材查找能做什么菜,新手也能烤出蛋糕,根据口味推荐今天吃什么|炖汤的火候讲得很细,减脂餐和宝宝辅食都有,大厨教你切菜和调味,剩菜变成新花样,晒一晒你的拿手好菜
运动健身|记录跑步的路线和速度,跟着教练在家练肌肉,每天走了多少步都知道,瑜伽课程从入门到高级,计算消耗的热量|深蹲和平板支撑有语音计数,制订减脂增肌计划,骑行爬山也能记里程,心率太高会提醒休息,和朋友比一比谁练得勤
音乐|海量歌曲免费听,歌词跟着旋律滚动,按心情推荐歌单,下载无损音质,听歌识曲很准|跟着音乐唱一首录下来,电台节目陪你到天亮,歌手的新歌第一时间上线,定时停止播放,耳机里像在现场
看小说|热门小说每天更新,言情历史科学应有尽有,夜间模式不伤眼睛,书架同步看书的进度,翻页像真书一样|整本下载离线看,朗读功能解放双手,完本好书随便挑,作者大大在线催更,书荒的时候看看排行榜
拍照修图|一键美颜让皮肤白嫩,上百种效果随便换,把照片拼成一张图,去掉画面里多余的人,给照片加上文字和贴纸|瘦脸大眼自然不假,老照片变清晰,换个背景像在海边,证件照自己就能拍,制作有趣的动图
购物|每天都有优惠券可以领,正品保证假一赔十,下单以后次日送达,七天无理由退货,比较各家的价格再买|限时抢购低至五折,把喜欢的宝贝放进购物车,看看买家秀再决定,拼团邀请好友更便宜,积分可以抵现金
外卖|周围的餐馆都能点,骑手三十分钟送到家,新用户首单立减,奶茶和甜品也能送,看评分挑选商家|深夜也有夜宵,备注少放辣椒,餐盒送到写字楼前台,催单退单很方便,满减红包天天领
租房买房|真实房源附带照片,按地铁线路找房子,合租整租任你选,房东直租没有中介费,查看小区的成交价|视频看房不用跑腿,计算每个月的房贷,预约经纪人带看,二手房和新楼盘都有,押金可以分期付
求职招聘|名企职位每天更新,填写简历就能投递,和老板直接聊薪资,按城市和行业挑选工作,面试通知不错过|应届生实习岗位多,看看公司的真实评价,简历有模板可套,临时工周结工资,猎头帮你推荐高薪岗位
母婴育儿|记录宝宝喂奶和睡觉的时间,怀孕每一周的变化都有说明,儿科医生回答妈妈的疑问,疫苗接种到期提醒,儿歌和睡前故事陪宝宝入睡|身高体重画成曲线,产检该做哪些一清二楚,妈妈们在这里交流经验,早教游戏开发智力,孕期能不能吃一查便知
快递|输入单号查询包裹到哪里,快递员上门取件,各家快递公司都支持,寄件在线填写地址,签收以后马上通知|附近的取件点和取件码,计算寄到外地的运费,大件行李也能托运,包裹异常可以投诉,常用地址保存起来"""

# {app} is an invented name
OPENINGS = (
    "{app}是一款很好用的手机软件。",
    "{app}，陪你每一天。",
    "欢迎使用{app}！",
    "{app}为用户提供贴心的服务。",
    "大家都在用的{app}来了。",
    "{app}全新改版，更懂你的需要。",
)
# what any app says of itself
PRAISE = (
    "界面简洁大方，操作方便。",
    "安装包小，不占内存。",
    "没有广告，永久免费。",
    "专业团队精心制作。",
    "客服全天在线，有问必答。",
    "千万用户的选择。",
    "注册简单，用手机号就能登录。",
    "保护你的隐私，安全可靠。",
)
UPDATES = (
    "更新内容：修复已知问题，运行更加稳定。",
    "更新内容：优化了首页的显示。",
    "更新内容：加快启动速度。",
    "更新内容：新增消息提醒。",
    "更新内容：支持更多的手机型号。",
)
NAMES = (
    "小蓝 青鸟 豆芽 云朵 快马 星河 橙子 大白 极光 百灵 松果 蜜蜂 叮当 海鸥 微风 竹林",
    "助手 管家 宝 通 专家 达人 生活 精灵 大师 在线",
)


def description(features, others, rng):
    """Opening, features, often what an app of another category does besides, praise, update."""
    app = "".join(rng.choice(words.split()) for words in NAMES)
    said = rng.sample(features, rng.between(1, 2))
    if len(said) == 2 and rng.chance(0.6):
        said.append(rng.choice(others))
    lines = ["，".join(rng.sample(said, len(said))) + "。", rng.choice(PRAISE)]
    lines = [rng.choice(OPENINGS).format(app=app), *rng.sample(lines, len(lines))]
    if rng.chance(0.3):
        lines.append(rng.choice(UPDATES))
    return "".join(lines)


def app_files(sizes=(("train", 320), ("dev", 320))):
    """The text of every file, by name: as many descriptions of each category."""
    rng = Random(20240602)
    names, *halves = zip(*(line.split("|") for line in CATEGORIES.splitlines()), strict=True)
    halves = [[words.split(",") for words in half] for half in halves]
    features = {"train": halves[0], "dev": [a + b for a, b in zip(*halves, strict=True)]}
    files, known = {}, set()
    for split, size in sizes:
        rows = []
        while len(rows) < size:
            label = len(rows) % len(names)
            other = rng.choice([i for i in range(len(names)) if i != label])
            text = description(features[split][label], features[split][other], rng)
            if text not in known:
                known.add(text)
                rows.append({"label": str(label), "label_des": names[label], "sentence": text})
        files[split] = rng.sample(rows, size)
    files["labels"] = [{"label": str(i), "label_des": name} for i, name in enumerate(names)]
    return {
        f"apps/{split}.json": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for split, rows in files.items()
    }


if __name__ == "__main__":
    main(app_files)
