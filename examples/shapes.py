"""Pictures of a coloured shape, and what is to be seen on them: data for task_image_caption.py."""

import numpy as np

COLORS = {
    "红色": (220, 40, 40),
    "绿色": (40, 170, 60),
    "蓝色": (40, 80, 220),
    "黄色": (240, 210, 40),
    "黑色": (30, 30, 30),
}
# whether (x, y), from -1 to 1, is inside
SHAPES = {
    "圆": lambda x, y: x**2 + y**2 <= 1,
    "正方形": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.9,
    "三角形": lambda x, y: abs(x) <= (y + 1) / 2,
    "十字": lambda x, y: np.minimum(abs(x), abs(y)) <= 0.3,
}
PLACES = {"左上角": (9, 9), "右上角": (23, 9), "左下角": (9, 23), "右下角": (23, 23)}
SIZE = 32  # pixels


def shapes(count, seed):
    """Pictures and captions.

    Returns:
        A list of (uint8 array `(SIZE, SIZE, 3)`, captions); each has one.
    """
    random = np.random.default_rng(seed)
    return [picture(random) for _ in range(count)]


def picture(random):
    """A shape in a corner, and what is said of it."""
    place, color, kind = (
        list(names)[random.integers(len(names))] for names in (PLACES, COLORS, SHAPES)
    )
    centre = np.array(PLACES[place]) + random.uniform(-2, 2, 2)
    y, x = (np.mgrid[:SIZE, :SIZE] - centre[::-1, None, None]) / random.uniform(5, 7)
    canvas = np.full((SIZE, SIZE, 3), 255, "uint8")
    canvas[SHAPES[kind](x, y) & (np.maximum(abs(x), abs(y)) <= 1)] = COLORS[color]
    return canvas, [f"{place}有一个{color}的{kind}"]


def in_terminal(picture):
    """A picture in coloured half blocks, for a terminal."""
    rows = picture[::2, ::2].astype(int)
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
