"""Make the tables of docs/benchmarks/loop.md and its plot from JSON lines.

usage: python3 bench/loop_report.py FILE.jsonl PLOT.svg [DOCUMENT.md]

Prints the table of what is asked and measured and those of the rows; with a
document it replaces what stands there between <!-- ratios --> and <!-- rows -->
and their ends. Standard library only. Each figure is the median over the rounds
of one side, a ratio that of two medians; one that misses its goal is bold.
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
            if messages := one.get("values", {}).get("all"):
                # Between the first and the last message, where the load generator says so.
                used = one["values"].get("server_cpu") or one["server_cpu_seconds"]
                side["cpu"].append(used / messages * 1e6)
    return runs


def med(side: dict[str, list[float]], name: str) -> float:
    """Return the median of one figure of a side."""
    return statistics.median(side[name]) if side.get(name) else math.nan


def table(row: Row) -> list[str]:
    """Return the lines of one comparison."""
    lines = ["| server | messages/s | min to max | p50 µs | p99 µs | p99.9 µs | CPU s per million | peak RSS KiB |", "|---|---|---|---|---|---|---|---|"]
    for name, side in row.items():
        rates = side["per_second"]
        lines.append(
            f"| {name} | {med(side, 'per_second'):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {med(side, 'p50_us'):,.0f} | {med(side, 'p99_us'):,.0f} | {med(side, 'p999_us'):,.0f} "
            f"| {med(side, 'cpu'):.2f} | {med(side, 'rss'):,.0f} |"
        )
    return [*lines, ""]


def ratio(row: Row, figure: str, peer: str, low: float = 0, high: float = math.inf, ours: str = "evloop") -> str:
    """Return ours over the peer's, bold outside low to high."""
    value = med(row[ours], figure) / med(row[peer], figure)
    return f"{value:.2f}" if low <= value <= high else f"**{value:.2f}**"


def sized(size: int) -> str:
    """Name a size of message."""
    return "1 KiB" if size == 1024 else f"{size} B"


def ratios(runs: dict[Key, Row]) -> list[str]:
    """Return the table of what the issue asks; rows that were not run are left out."""
    echo: dict[tuple[int, int], Row] = {}
    idle: dict[int, Row] = {}
    one: dict[str, Row] = {}
    for (scenario, params), row in runs.items():
        p = dict(params)
        if not row or scenario not in ("loop", "neighbour", "resp"):
            continue
        if scenario != "loop":
            one[f"{scenario} {p.get('P', '')}".strip()] = row
        elif p["active"] == "0" and "goloop" in row:
            echo[int(p["size"]), int(p["conns"])] = row
        elif p["active"] == "1":
            idle[int(p["conns"])] = row
    conns = sorted({c for _, c in echo})
    sizes = sorted({s for s, _ in echo})

    def over(figure: str, peer: str, least: int = 0, low: float = 0, high: float = math.inf, ours: str = "evloop") -> str:
        parts = []
        for s in sizes:
            each = [ratio(echo[s, c], figure, peer, low, high, ours) for c in conns if c >= least and (s, c) in echo]
            parts.append(f"{sized(s)}: {', '.join(each)}")
        return "; ".join(parts)

    lines = [f"Ratios of medians at {', '.join(f'{c:,}' for c in conns)} connections, in this order; bold misses.", ""]
    lines += ["| asked | measured |", "|---|---|"]
    if echo:
        lines.append(f"| rate at least 0.95 of the bare Go loop | {over('per_second', 'goloop', low=0.95)} |")
        lines.append(f"| rate at least 0.85 of the bare C loop | {over('per_second', 'cloop', low=0.85)} |")
        lines.append(f"| rate 1.3 times Go `net` from 100 connections on | {over('per_second', 'gonet', 100, low=1.3)} |")
        lines.append(f"| CPU per message at most 1.15 of C | {over('cpu', 'cloop', high=1.15)} |")
        single = [f"{sized(s)}: {ratio(echo[s, 1], 'p50_us', 'gonet', high=1.15)}" for s in sizes if (s, 1) in echo]
        lines.append(f"| one connection: p50 at most 1.15 of Go `net` | {'; '.join(single)} |")
        lines.append(f"| for comparison: rate of the C loop, of Go `net` | {over('per_second', 'gonet', 100, ours='cloop')} |")
    if 1000 in idle and 16000 in idle:
        each = {n: (med(idle[16000][n], "rss") - med(idle[1000][n], "rss")) / 15000 for n in idle[1000] if n != "cloop"}
        lines.append(f"| at most 1 KiB of RSS per idle connection between 1,000 and 16,000 | {', '.join(f'{n} {v:.2f} KiB' for n, v in each.items())} |")
    if row := one.get("neighbour"):
        lines.append(f"| loud neighbour: p99 and p99.9 at most 1.25 of C | {ratio(row, 'p99_us', 'cloop', high=1.25)} and {ratio(row, 'p999_us', 'cloop', high=1.25)} |")
    for name in sorted(n for n in one if n.startswith("resp")):
        row = one[name]
        cpu = ratio(row, "cpu", "redis")
        lines.append(f"| RESP, P={name.split()[1]}: rate at least 0.9 of redis-server | {ratio(row, 'per_second', 'redis', low=0.9)}; CPU per command {cpu} |")
    return [*lines, ""]


def replace(path: str, name: str, lines: list[str]) -> None:
    """Put lines between the marks of that name."""
    with open(path) as file:
        text = file.read()
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        sys.exit(f"{path}: no {begin.strip()} and {end}")
    with open(path, "w") as file:
        file.write(before + begin + "\n" + "\n".join(lines) + "\n" + end + after)


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
    """Read the rounds, print the tables or put them into the document, write the plot."""
    runs = load(sys.argv[1])
    backends: dict[str, dict[int, float]] = {}
    rows: list[str] = []
    for (scenario, params), row in runs.items():
        if not row:
            continue
        shown = [f"{k} {v}" for k, v in params if k != "sides" and (k, v) not in (("active", "0"), ("procs", "1"), ("pin", "false"))]
        rows += [f"### {scenario}: " + ", ".join(shown), "", *table(row)]
        if "select" in row:
            for name, side in row.items():
                line = backends.setdefault("epoll" if name == "evloop" else name, {})
                line[int(dict(params)["conns"])] = med(side, "per_second")
    asked = ratios(runs)
    if len(sys.argv) > 3:
        replace(sys.argv[3], "ratios", asked)
        replace(sys.argv[3], "rows", rows)
    else:
        print("\n".join(asked + rows))
    if backends:
        plot(backends, sys.argv[2])


main()
