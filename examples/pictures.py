"""Pictures of texts and of curves, as SVG, which any browser shows, with its own Chinese fonts."""

from html import escape

from bert4keras_lite.files import write_text

FONT = "'PingFang SC','Microsoft YaHei','Noto Sans CJK SC','Source Han Sans SC',sans-serif"
COLOURS = ["#9aa0a6", "#1f77b4", "#d62728", "#2ca02c"]


def svg_text(x, y, text, size=15, anchor="start", fill="#202124"):
    """A text whose foot is at (x, y)."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{escape(str(text))}</text>"


def shade(share):
    """White at 0, red at 1, blue at -1."""
    pale = round(255 * (1 - min(abs(share), 1)))
    return f"rgb(255,{pale},{pale})" if share > 0 else f"rgb({pale},{pale},255)"


def green(share):
    """White at 0, green at 1."""
    return f"rgb({255 - 175 * share:.0f},{255 - 60 * share:.0f},{255 - 145 * share:.0f})"


def cells(x, y, marks, size=30):
    """Characters or words in a row of boxes.

    Args:
        x, y: of the upper left corner.
        marks: (text, colour, small text below or "") for each box.

    Returns:
        `(svg, right)`: the picture, and where it ends.
    """
    parts = []
    for text, colour, below in marks:
        width = max(size, round(size * (0.3 + len(text.encode("gb18030", "replace")) * 0.35)))
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width - 2}" height="{size}" rx="3" fill="{colour}"/>'
        )
        parts.append(svg_text(x + width / 2 - 1, y + 0.73 * size, text, 0.67 * size, "middle"))
        if below:
            parts.append(
                svg_text(
                    x + width / 2 - 1, y + 1.45 * size, below, 0.45 * size, "middle", "#80868b"
                )
            )
        x += width
    return "\n".join(parts), x


def curves(x, y, width, height, lines, title, label, low=0.0, high=1.0):
    """Curves in a frame, each with its name at its end.

    Args:
        x, y, width, height: of the frame, without what stands around it.
        lines: name -> list of (x, y).
        title, label: what stands above, and below.
        low, high: of the vertical axis, as fractions, shown in per cent.
    """
    every = [point for points in lines.values() for point in points]
    first, last = min(p[0] for p in every), max(p[0] for p in every)

    def place(point):
        right = (point[0] - first) / (last - first or 1)
        up = (point[1] - low) / (high - low)
        return x + width * right, y + height * (1 - up)

    parts = [svg_text(x, y - 14, title, 17), svg_text(x + width, y + height + 22, label, 13, "end")]
    for i in range(5):
        value = low + (high - low) * i / 4
        _, at = place((first, value))
        parts.append(
            f'<line x1="{x}" x2="{x + width}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e8eaed"/>'
        )
        parts.append(svg_text(x - 8, at + 5, f"{value:.0%}", 12, "end", "#80868b"))
    ends = sorted(
        ((place(points[-1])[1], name, i) for i, (name, points) in enumerate(lines.items())),
    )
    free = y - 20
    for at, name, i in ends:
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(place, lines[name]))
        colour = COLOURS[i % len(COLOURS)]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        free = max(at, free + 18)  # names do not lie upon each other
        value = lines[name][-1][1]
        parts.append(svg_text(x + width + 8, free + 5, f"{name} {value:.0%}", 14, fill=colour))
    return "\n".join(parts)


def save(path, width, height, parts):
    """Writes a picture of parts, on white."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{FONT}">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
    )
    write_text(path, "\n".join([head, *parts, "</svg>\n"]))
