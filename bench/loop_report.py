"""Make the tables of docs/benchmarks/loop.md and its plot from JSON lines.

usage: python3 bench/loop_report.py FILE.jsonl PLOT.svg > tables.md

Standard library only. Each figure is the median over the rounds of one side.
"""

import json
import math
import statistics
import sys
from collections import defaultdict

Key = tuple[str, tuple[tuple[str, str], ...]]
Row = dict[str, dict[str, list[float]]]


def load(path: str) -> dict[Key, Row]:
    """Group rounds by scenario, parameters and side."""
    runs: dict[Key, Row] = {}
    skip = ("q", "json", "rounds", "warmup", "timeout", "dir", "port", "seconds", "resp", "n", "t")
    key: Key = ("", ())
    with open(path) as file:
        for line in file:
            record = json.loads(line)
            if record["event"] == "run":
                params = record["run"]["params"].items()
                key = (record["run"]["scenario"], tuple(sorted((k, v) for k, v in params if k not in skip)))
                runs[key] = {}  # a row that was run again replaces the old one
            if record["event"] != "round":
                continue
            one = record["round"]
            side = runs[key].setdefault(one["side"], defaultdict(list))
            for name, value in one.get("values", {}).items():
                side[name].append(value)
            side["rss"].append(one["server_peak_bytes"] / 1024)
            if one.get("values", {}).get("all"):
                side["cpu"].append(one["server_cpu_seconds"] / one["values"]["all"] * 1e6)
    return runs


def med(side: dict[str, list[float]], name: str) -> float:
    """Return the median of one figure of a side."""
    return statistics.median(side[name]) if side.get(name) else math.nan


def table(row: Row) -> None:
    """Print one comparison."""
    print("| server | messages/s | min to max | p50 µs | p99 µs | p99.9 µs | CPU s per million | peak RSS KiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, side in row.items():
        rates = side["per_second"]
        print(
            f"| {name} | {med(side, 'per_second'):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {med(side, 'p50_us'):,.0f} | {med(side, 'p99_us'):,.0f} | {med(side, 'p999_us'):,.0f} "
            f"| {med(side, 'cpu'):.2f} | {med(side, 'rss'):,.0f} |"
        )
    print()


def plot(points: dict[str, dict[int, float]], path: str) -> None:
    """Write rate against connections, both axes logarithmic, as SVG."""
    width, height, left, bottom = 640, 360, 70, 40
    xs = sorted({x for line in points.values() for x in line})
    top = max(y for line in points.values() for y in line.values())
    low = min(y for line in points.values() for y in line.values())
    y0, y1 = math.floor(math.log10(low)), math.ceil(math.log10(top))

    def px(x: float) -> float:
        return left + (width - left - 20) * (math.log10(x / xs[0]) / math.log10(xs[-1] / xs[0]))

    def py(y: float) -> float:
        return height - bottom - (height - bottom - 20) * (math.log10(y) - y0) / (y1 - y0)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for e in range(y0, y1 + 1):
        y = py(10**e)
        out.append(f'<path d="M{left} {y:.1f}H{width - 20}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10**e:,}</text>')
    for x in xs:
        out.append(f'<text x="{px(x):.1f}" y="{height - bottom + 18}" text-anchor="middle">{x:,}</text>')
    out.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">connections, 10 of them talking</text>')
    out.append(f'<text x="14" y="{height / 2}" transform="rotate(-90 14 {height / 2})" text-anchor="middle">messages a second</text>')
    for (name, line), color in zip(points.items(), ("#c0392b", "#e67e22", "#2471a3")):
        path_data = "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in sorted(line.items()))
        out.append(f'<path d="M{path_data}" fill="none" stroke="{color}" stroke-width="2"/>')
        last = max(line)
        out.append(f'<text x="{px(last) - 4:.1f}" y="{py(line[last]) - 6:.1f}" text-anchor="end" fill="{color}">{name}</text>')
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def main() -> None:
    """Read the rounds, print the tables, write the plot."""
    backends: dict[str, dict[int, float]] = {}
    for (scenario, params), row in load(sys.argv[1]).items():
        if not row:
            continue
        shown = [f"{k} {v}" for k, v in params if k != "sides" and (k, v) not in (("active", "0"), ("procs", "1"))]
        print(f"### {scenario}: " + ", ".join(shown) + "\n")
        table(row)
        if "select" in row:
            for name, side in row.items():
                line = backends.setdefault("epoll" if name == "evloop" else name, {})
                line[int(dict(params)["conns"])] = med(side, "per_second")
    if backends:
        plot(backends, sys.argv[2])


main()
