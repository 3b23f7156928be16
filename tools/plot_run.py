#!/usr/bin/env python3
"""Draws the metrics of runs as one SVG: training and validation loss, and the imbalance of expert
loads in layers and pools. --line adds a horizontal line with a name at a loss.

usage: plot_run.py RUN_FOLDER [RUN_FOLDER ...] --output FILE.svg [--line NAME=LOSS ...]
"""
import argparse
import html
import json
import math
import os
import sys

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 260, 52, 34, 36
COLORS = ["#1f6feb", "#d1570b", "#1a7f37", "#8250df", "#bf3989"]


def fail(message):
    print(f"plot_run.py: {message}", file=sys.stderr)
    sys.exit(2)


def read_record(line, name):
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        fail(f"{name}: {error.msg} at column {error.colno}; remove or repair this line")
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        fail(f"{name} is not a JSON object with an integer \"step\"; is this the metrics.jsonl of "
             "a run?")
    return record


def read_run(folder):
    path = os.path.join(folder, "metrics.jsonl")
    try:
        with open(path) as file:
            records = [read_record(line, f"{path} line {number}")
                       for number, line in enumerate(file, start=1)]
    except UnicodeDecodeError:
        fail(f"{path} is not UTF-8 text; is this the metrics.jsonl of a run?")
    except OSError as error:
        fail(f"{path}: {error.strerror}; give the folder of a run")
    if not series(records, "lm_loss"):
        fail(f"{path} has no record of a training step; train the run first")
    return records


def read_line(text):
    name, _, loss = text.partition("=")
    try:
        return name, float(loss)
    except ValueError:
        fail(f"--line {text}: give a name and a number, as in NAME=2.79")


def smooth(points, share=0.02):
    """Returns the centred moving average; the window is 2 * share of the points."""
    half = max(1, int(len(points) * share))
    result = []
    for i, (x, _) in enumerate(points):
        window = [y for _, y in points[max(0, i - half):i + half + 1]]
        result.append((x, sum(window) / len(window)))
    return result


def series(records, key):
    """Returns (step, value) of each record after step 0 that has a value of `key`."""
    return [(r["step"], r[key]) for r in records
            if r["step"] > 0 and r.get(key) is not None]


def ticks(low, high):
    """Returns at most seven round numbers in [low, high], as labels of an axis."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9))) / 10
    while (high - low) / step > 6:
        step *= 2.5 if str(step).strip("0.")[:1] == "2" else 2
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


class Panel:
    """One plot with its own axes; column 0 is the leftmost."""

    def __init__(self, column, title, x_range, y_range):
        self.origin = column * WIDTH + LEFT
        self.width, self.height = WIDTH - LEFT - 14, HEIGHT - TOP - BOTTOM
        self.x_range, self.y_range = x_range, y_range
        self.parts = [f'<text x="{self.origin}" y="20" class="title">{html.escape(title)}</text>']
        for y in ticks(*y_range):
            at = self.y(y)
            self.parts.append(f'<line x1="{self.origin}" x2="{self.origin + self.width}" '
                              f'y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
            self.parts.append(f'<text x="{self.origin - 6}" y="{at + 4:.1f}" '
                              f'text-anchor="end">{y:g}</text>')
        for x in ticks(*x_range):
            self.parts.append(f'<text x="{self.x(x):.1f}" y="{HEIGHT - 18}" '
                              f'text-anchor="middle">{x:g}</text>')
        self.parts.append(f'<text x="{self.origin + self.width / 2}" y="{HEIGHT - 3}" '
                          f'text-anchor="middle">step</text>')

    def x(self, value):
        low, high = self.x_range
        return self.origin + (value - low) / max(high - low, 1e-9) * self.width

    def y(self, value):
        low, high = self.y_range
        share = (min(max(value, low), high) - low) / max(high - low, 1e-9)
        return TOP + (1 - share) * self.height

    def line(self, points, color, style=""):
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" {style}/>')

    def dots(self, points, color):
        for x, y in points:
            self.parts.append(f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.2" '
                              f'fill="{color}"/>')

    def label(self, row, text, color):
        at = TOP + 14 + 15 * row
        self.parts.append(f'<text x="{self.origin + self.width}" y="{at}" text-anchor="end" '
                          f'style="fill:{color}">{html.escape(text)}</text>')


def draw(runs, lines):
    last = max(records[-1]["step"] for _, records in runs)
    losses = [y for _, records in runs for _, y in smooth(series(records, "lm_loss"))]
    loss = Panel(0, "loss, nats per token (dots: validation)", (0, last),
                 (int(min(losses) * 2 - 0.5) / 2, min(max(losses), 4.0)))
    worst = max([y for _, records in runs for _, y in series(records, "layer_imbalance")] + [2])
    balance = Panel(1, "imbalance: maximum / mean tokens per expert", (0, last), (0, worst))
    for i, (name, records) in enumerate(runs):
        color = COLORS[i % len(COLORS)]
        loss.line(smooth(series(records, "lm_loss")), color)
        loss.dots(series(records, "validation_loss"), color)
        loss.label(i, name, color)
        if any(y > 0 for _, y in series(records, "layer_imbalance")):
            balance.line(smooth(series(records, "layer_imbalance")), color,
                         'stroke-dasharray="4 3"')
            balance.line(smooth(series(records, "pool_imbalance")), color)
            balance.label(i, f"{name}: pool, dashed: layers", color)
    for i, (name, value) in enumerate(lines):
        loss.line([(0, value), (last, value)], "#6e7781", 'stroke-dasharray="2 3"')
        loss.label(len(runs) + i, f"{name} {value:g}", "#6e7781")
    body = "\n".join(loss.parts + balance.parts)
    style = ("text{font:11px sans-serif;fill:#57606a}.title{font-weight:bold;fill:#24292f}"
             ".grid{stroke:#d8dee4;stroke-width:1}polyline{stroke-width:1.8}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {2 * WIDTH} {HEIGHT}">\n<style>{style}</style>\n'
            f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("runs", nargs="+", metavar="RUN_FOLDER")
    parser.add_argument("--output", required=True, metavar="FILE.svg")
    parser.add_argument("--line", action="append", default=[], metavar="NAME=LOSS")
    args = parser.parse_args()
    runs = [(os.path.basename(os.path.normpath(run)), read_run(run)) for run in args.runs]
    lines = [read_line(text) for text in args.line]
    drawing = draw(runs, lines)
    try:
        with open(args.output, "w") as file:
            file.write(drawing)
    except OSError as error:
        fail(f"{args.output}: {error.strerror}; choose another --output")


if __name__ == "__main__":
    main()
