"""Measures the strategy that `fine-tune train` chooses for data sets, and its gain on held-out pictures.

Prints a Markdown table.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
BASE = ROOT / "assets" / "base-textures.safetensors"
# Name, flags of the generator, training pictures per class.
SETS = (("steel", ("--set", "steel"), 60), ("plates", ("--set", "stamps"), 150))
HELD_OUT = 100


def run(program: str, *arguments: str | Path) -> str:
    """Returns the program's standard output; exits if the program fails."""
    command = [str(RELEASE / program), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(command[:4])} ...` ended with status {done.returncode}")
    return done.stdout


def trained(data: Path, folder: Path, strategy: str) -> dict[str, dict]:
    """Trains, and returns the last event of each kind."""
    lines = run(
        "fine-tune", "train", data, "--task", f"{data.name}-{strategy}", "--base", BASE, "--heads", folder / "heads",
        "--cache", folder / "cache", "--good", "ok", "--strategy", strategy, "--output", "json",
    )  # fmt: skip
    return {event["event"]: event for event in map(json.loads, lines.splitlines())}


def main() -> None:
    print("| pictures | strategy | took | gain in cross-validation | held-out pictures right |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, flags, per_class in SETS:
            data = folder / label
            run("surfaces", data / "train", *flags, "--per-class", str(per_class))
            run("surfaces", data / "val", *flags, "--per-class", str(HELD_OUT), "--start", "1000")
            # The first strategy also fills the cache.
            for strategy in ("feature-extraction", "auto"):
                events = trained(data, folder, strategy)
                choice, accuracy = events["strategy"], events["evaluated"]["accuracy"]
                gain = choice["gain"]
                low, high = (100 * share for share in gain["interval"]) if gain else (0, 0)
                shown = f"{100 * gain['gain']:+.1f} ({low:+.1f} to {high:+.1f})" if gain else "not tried"
                took = choice["branch"] or "linear"
                print(f"| {label} | {strategy} | {took} | {shown} | {100 * accuracy:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
