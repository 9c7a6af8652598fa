"""Fills docs/performance.md with the results of the benchmarks, and draws its charts.

The text between `<!-- engine -->` and `<!-- end -->` comes from target/bench/engine.json, and so on; a part whose
benchmark has not been run stays as it is.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/performance.md"
RESULTS = ROOT / "target/bench"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def section(found: dict) -> str:
    machine = found["machine"]
    parts = [
        f"{machine['processors']} processors of {machine['processor']} ({', '.join(machine['extensions'])}), "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}."
    ]
    parts += [f"{table['title']}:\n\n{markdown(table['header'], table['rows'])}" for table in found["tables"]]
    bars = [
        [bar["name"], bar["wanted"], figures(bar["found"]), "met" if bar["met"] else "**missed**"]
        for bar in found["bars"]
    ]
    parts.append(markdown(["bar", "required", "found", ""], bars))
    return "\n\n".join(parts)


def bars_chart(title: str, unit: str, groups: list[tuple[str, list[tuple[str, float]]]]) -> str:
    """Returns horizontal bars in groups, as SVG."""
    left, width, row, gap = 170, 420, 18, 14
    largest = max(value for _, bars in groups for _, value in bars)
    y, body = 44, []
    for group, bars in groups:
        body.append(f'<text x="8" y="{y + 2}" font-weight="bold">{group}</text>')
        y += 8
        for name, value in bars:
            colour = "#d9480f" if name.startswith("Turret") else "#868e96"
            length = width * value / largest
            body.append(f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{name}</text>')
            body.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{row - 4}" fill="{colour}"/>')
            body.append(f'<text x="{left + length + 5:.1f}" y="{y + 13}">{figures(value)}</text>')
            y += row
        y += gap + 6
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{y}" '
        'font-family="sans-serif" font-size="12" fill="#212529">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n<text x="8" y="18" font-size="14">{title}, {unit}</text>'
    )
    return "\n".join([head, *body, "</svg>\n"])


def engine_chart(found: dict) -> str:
    table = found["tables"][0]
    groups = []
    for column, name in enumerate(table["header"]):
        if name.startswith("batch"):
            rows = [(row, re.match(r"[\d.]+", row[column])) for row in table["rows"]]
            groups.append((name, [(f"{row[0]} {row[1]}", float(speed[0])) for row, speed in rows if speed]))
    return bars_chart("ResNet34 at 224x224, the bare engine", "images a second", groups)


def serve_chart(found: dict) -> str:
    groups: dict[str, list[tuple[str, float]]] = {}
    for form, clients, speed, bare, *_ in found["tables"][0]["rows"]:
        group = groups.setdefault(form, [("bare engine", float(bare))])
        group.append((f"Turret, {clients} clients", float(speed)))
    return bars_chart("Through gRPC, closed loop", "verdicts a second", list(groups.items()))


CHARTS = {"engine": engine_chart, "serve-fp32": serve_chart, "serve-int8": serve_chart}


def main() -> None:
    text = DOCUMENT.read_text()
    for name in re.findall(r"<!-- (\S+) -->\n", text):
        path = RESULTS / f"{name}.json"
        if name == "end" or not path.exists():
            continue
        found = json.loads(path.read_text())
        filled = section(found)
        if name in CHARTS:
            (ROOT / f"docs/performance-{name}.svg").write_text(CHARTS[name](found))
            filled += f"\n\n![{name}](performance-{name}.svg)"
        pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda match: f"{match[1]}\n{filled}\n\n{match[2]}", text)
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
