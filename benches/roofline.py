#!/usr/bin/env python3
"""Draws the roofline of `sal bench --json`: GFLOP/s of each point over its FLOPs a byte, under the limits measured in the
same process.

    sal bench --threads 1 --json > bench.json
    python3 benches/roofline.py bench.json "machine, date" roofline.svg
"""

import json
import math
import sys

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 50, 60
VERBS = {  # name in the legend, colour
    "route": ("route", "#7a5195"),
    "forward": ("gated forward", "#1f6fb4"),
    "feedback": ("feedback, f32", "#2a9d5c"),
    "feedback_signs": ("feedback, signs", "#e08214"),
    "update": ("gated update", "#c0392b"),
}


def ticks(low, high):
    """1, 2, 5 times powers of ten within the range, all of which are numbered."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10**p for p in powers for f in (1, 2, 5) if low <= f * 10**p <= high]


def short(value):
    return f"{value:g}"


def draw(bench, machine):
    points = [
        (p["flop"] / p["bytes"], p["flop"] / p["seconds_min"] / 1e9, p) for p in bench["points"]
    ]
    limits = bench["limits"]
    peak = limits["fma"] / 1e9
    low_x, high_x = min(x for x, *_ in points) / 1.6, max(x for x, *_ in points) * 1.6
    low_y, high_y = min(y for _, y, _ in points) / 1.6, max(peak, max(y for _, y, _ in points)) * 1.5

    def scale(value, low, high, first, last):
        return first + (last - first) * math.log(value / low) / math.log(high / low)

    def at_x(x):
        return scale(x, low_x, high_x, LEFT, WIDTH - RIGHT)

    def at_y(y):
        return scale(y, low_y, high_y, HEIGHT - BOTTOM, TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]

    def text(x, y, content, **more):
        style = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
        out.append(f'<text x="{x:.1f}" y="{y:.1f}"{style}>{content}</text>')

    def line(x1, y1, x2, y2, colour, width=1, dash=None):
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dash}/>'
        )

    title = f'sal-kernels, {bench["isa"]}, {bench["threads"]} thread(s): {machine}'
    text(LEFT, 28, title, font_size=15, font_weight="bold")
    for x in ticks(low_x, high_x):
        line(at_x(x), TOP, at_x(x), HEIGHT - BOTTOM, "#eeeeee")
        text(at_x(x), HEIGHT - BOTTOM + 18, short(x), text_anchor="middle")
    for y in ticks(low_y, high_y):
        line(LEFT, at_y(y), WIDTH - RIGHT, at_y(y), "#eeeeee")
        text(LEFT - 8, at_y(y) + 4, short(y), text_anchor="end")
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "FLOPs for each byte that has to move", text_anchor="middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    text(20, middle, "GFLOP/s", text_anchor="middle", transform=f"rotate(-90 20 {middle})")

    # Roofs: bandwidth times intensity, up to the peak.
    roofs = [("L2", "#999999"), ("L3", "#777777"), ("memory", "#444444")]
    for level, colour in roofs:
        for kind, dash in (("read", None), ("update", "5,4")):
            bandwidth = limits[f"{level.lower()}_{kind}"] / 1e9
            first = max(low_x, low_y / bandwidth)
            last = min(high_x, peak / bandwidth)
            if first < last:
                line(at_x(first), at_y(bandwidth * first), at_x(last), at_y(peak if last < high_x else bandwidth * last), colour, 1.3, dash)
                if kind == "read":
                    x = math.sqrt(first * last) if level == "memory" else first * 1.25
                    text(at_x(x) + 6, at_y(bandwidth * x) + 14, level, fill=colour)
    line(LEFT, at_y(peak), WIDTH - RIGHT, at_y(peak), "black", 1.3)
    text(LEFT + 6, at_y(peak) - 6, f"multiply-adds, {peak:.0f} GFLOP/s")

    for x, y, point in points:
        name, colour = VERBS[point["verb"]]
        label = f'{name} {point["d_in"]}x{point["d_out"]}, {point["areas"]} area(s), batch {point["batch"]}: {y:.1f} GFLOP/s, {100 * point["share"]:.0f} % of its roof'
        out.append(
            f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4.5" fill="{colour}" '
            f'fill-opacity="0.75"><title>{label}</title></circle>'
        )
    left = WIDTH - RIGHT + 20
    for i, (name, colour) in enumerate(VERBS.values()):
        out.append(f'<circle cx="{left}" cy="{TOP + 20 + 22 * i}" r="5" fill="{colour}"/>')
        text(left + 12, TOP + 24 + 22 * i, name)
    below = TOP + 40 + 22 * len(VERBS)
    line(left - 6, below, left + 8, below, "#555555", 1.3)
    text(left + 12, below + 4, "read bandwidth")
    line(left - 6, below + 22, left + 8, below + 22, "#555555", 1.3, "5,4")
    text(left + 12, below + 26, "update (read + write)")
    text(left - 6, below + 52, "Signs count as what they", fill="#555555")
    text(left - 6, below + 67, "stand for: two FLOPs each.", fill="#555555")
    out.append("</svg>\n")
    return "\n".join(out)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        bench = json.load(file)
    with open(sys.argv[3], "w", encoding="utf-8") as file:
        file.write(draw(bench, sys.argv[2]))


if __name__ == "__main__":
    main()
