"""Write instructions/*.json beside this script: instructions with one right answer each.

    python make_instructions.py            # write the files
    python make_instructions.py --check    # only say whether they are what this script writes

Each line has the keys `instruction`, `output` and `kind`. No instruction is in two files, and each
file has the kinds in turn. A fixed seed gives the same bytes on every machine.
"""

import json

from make_sample import SLOTS, Random, main

DIGITS = "零一二三四五六七八九"
DAYS = "一二三四五六日"
SIZES = {"train": 1000, "valid": 100, "test": 200}
GAPS = "job", "city", "dish", "fruit", "animal", "item", "drink", "skill"
WORDS = sorted({word for gap in GAPS for word in SLOTS[gap] if 2 <= len(word) <= 4})


def numeral(number):
    """A number from 1 to 99 in Chinese."""
    tens, ones = divmod(number, 10)
    start = "" if tens == 0 else "十" if tens == 1 else f"{DIGITS[tens]}十"
    return start + (DIGITS[ones] if ones or not tens else "")


def counted(number):
    """A number of things from 1 to 99 in Chinese."""
    return "两" if number == 2 else numeral(number)


def weekday(rng):
    day, step = rng.choice(range(7)), rng.choice(range(1, 7))
    word, sign = rng.choice([("后", 1), ("前", -1)])
    asked = rng.choice(["星期{}往{}数{}天是星期几？", "今天是星期{}，再往{}{}天是星期几？"])
    text = asked.format(DAYS[day], word, counted(step))
    return text, f"星期{DAYS[(day + sign * step) % 7]}"


def month(rng):
    number, step = rng.choice(range(12)), rng.choice(range(1, 7))
    word, sign = rng.choice([("后", 1), ("前", -1)])
    asked = rng.choice(["{}月再往{}数{}个月是几月？", "从{}月往{}数{}个月，是几月？"])
    after = (number + sign * step) % 12 + 1
    return asked.format(numeral(number + 1), word, counted(step)), f"{numeral(after)}月"


def written(rng):
    number = rng.choice(range(1, 100))
    asked = rng.choice(["把数字{}写成汉字。", "数字{}用汉字怎么写？", "请用汉字写出数字{}。"])
    return asked.format(number), numeral(number)


def read(rng):
    number = rng.choice(range(1, 100))
    asked = rng.choice(["把“{}”写成数字。", "“{}”是哪个数字？", "请用数字写出“{}”。"])
    return asked.format(numeral(number)), str(number)


def larger(rng):
    first, second = rng.sample(range(1, 100), 2)
    word, choose = rng.choice([("大", max), ("小", min)])
    asked = rng.choice(["{}和{}哪个{}？", "在{}和{}中，哪个数{}？"])
    return asked.format(first, second, word), str(choose(first, second))


def added(rng):
    first, second = rng.choice(range(1, 21)), rng.choice(range(1, 21))
    asked = rng.choice(["{}加{}等于多少？", "计算{}加{}。"])
    return asked.format(first, second), str(first + second)


def first_character(rng):
    word = rng.choice(WORDS)
    name, place = rng.choice([("第一个字", 0), ("最后一个字", -1)])
    asked = rng.choice(["“{}”的{}是什么？", "写出“{}”的{}。"])
    return asked.format(word, name), word[place]


def repeated(rng):
    word = rng.choice(WORDS)
    asked = rng.choice(["把“{}”说两遍。", "请重复两次“{}”。"])
    return asked.format(word), f"{word}，{word}"


KINDS = [weekday, month, written, read, larger, added, first_character, repeated]


def instruction_files():
    """The text of every file, by name."""
    rng, seen, files = Random(20241130), set(), {}
    for split, size in SIZES.items():
        lines = []
        while len(lines) < size:
            kind = KINDS[len(lines) % len(KINDS)]
            instruction, output = kind(rng)
            if instruction not in seen:
                seen.add(instruction)
                row = {"instruction": instruction, "output": output, "kind": kind.__name__}
                lines.append(json.dumps(row, ensure_ascii=False))
        files[f"instructions/{split}.json"] = "\n".join(lines) + "\n"
    return files


if __name__ == "__main__":
    main(instruction_files)
