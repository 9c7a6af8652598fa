"""Compares `fine-tune train` with scikit-learn's LogisticRegression on equal features, and a deep head with torchvision.

Both minimise the same function: scikit-learn's `C` is `1 / (l2 * sum of the weights)`, and the weights sum to the number
of pictures. Prints a line per figure with its bar; exits with 1 if a bar is missed.
"""

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

import deep

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
BASE = ROOT / "assets" / "base-textures.safetensors"
AGREEMENT_BAR = 0.995  # share of held-out rows with the same answer
PROBABILITY_BAR = 1e-3  # largest difference of a probability: heads are stored in fp32
LEAST_DEVIATION = 1e-6  # as in fine-tune: a feature that varies less is not scaled
TASK = "parity"


@dataclass(frozen=True)
class Rows:
    """Features [pictures, width] and labels [pictures]."""

    features: np.ndarray
    labels: np.ndarray


def run(program: str, *arguments: str | Path) -> str:
    """Returns the program's standard output; exits if the program fails."""
    command = [str(RELEASE / program), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(command[:4])} ...` ended with status {done.returncode}")
    return done.stdout


def cached_rows(pictures: Path, cache: Path, feature_set: str) -> Rows:
    """Reads the rows of a folder of class folders from fine-tune's cache, which is keyed by content."""
    entries = {path.stem: path for path in cache.rglob("*.safetensors")}
    paths = sorted(pictures.glob("*/*"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    features = np.stack([load_file(entries[digest])[feature_set] for digest in digests])
    return Rows(features.astype(np.float64), np.array([path.parent.name for path in paths]))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def trained(data: Path, folder: Path, feature_set: str, l2: float) -> dict[str, np.ndarray]:
    """Trains, publishes and exports a head; returns its weight and bias."""
    heads = folder / f"heads-{feature_set}-{l2}"
    lines = run(
        "fine-tune", "train", data, "--task", TASK, "--base", BASE, "--heads", heads, "--cache", folder / "cache",
        "--strategy", "feature-extraction", "--features", feature_set, "--l2", str(l2), "--output", "json",
    )  # fmt: skip
    published = [line for line in map(json.loads, lines.splitlines()) if line["event"] == "published"][-1]
    exported = heads / "linear.safetensors"
    run("fine-tune", "export", published["path"], "-o", exported)
    return load_file(exported)


def probabilities(linear: dict[str, np.ndarray], rows: Rows) -> np.ndarray:
    """Returns [pictures, classes]; classes are sorted by name, as in scikit-learn."""
    return softmax(rows.features @ linear["weight"].T.astype(np.float64) + linear["bias"])


def theirs(train: Rows, held_out: Rows, l2: float) -> np.ndarray:
    """Returns the probabilities [pictures, classes] of scikit-learn's minimum."""
    mean, deviation = train.features.mean(axis=0), train.features.std(axis=0)
    deviation[deviation < LEAST_DEVIATION] = 1
    model = LogisticRegression(
        C=1 / (l2 * len(train.labels)), class_weight="balanced", solver="lbfgs", tol=1e-9, max_iter=20000
    )
    model.fit((train.features - mean) / deviation, train.labels)
    return model.predict_proba((held_out.features - mean) / deviation)


def figures(folder: Path, per_class: int) -> Iterator[tuple[str, float, float, bool]]:
    """Yields name, value, bar, and whether the value must be at least the bar."""
    data = folder / "data"
    run("surfaces", data / "train", "--per-class", str(per_class))
    run("surfaces", data / "val", "--per-class", str(per_class), "--start", "1000")
    cache = folder / "cache"
    for feature_set in ("gap", "pyramid"):
        for l2 in (1.0, 0.01):
            # The first run fills the cache that rows are read from.
            linear = trained(data, folder, feature_set, l2)
            train = cached_rows(data / "train", cache, feature_set)
            held_out = cached_rows(data / "val", cache, feature_set)
            found = probabilities(linear, held_out)
            expected = theirs(train, held_out, l2)
            agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
            name = f"{feature_set}, L2 {l2:g}"
            yield f"{name}: same answer, share of {len(held_out.labels)} rows", agreement, AGREEMENT_BAR, True
            yield f"{name}: largest difference of a probability", float(np.abs(found - expected).max()), PROBABILITY_BAR, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=40)
    per_class = parser.parse_args().per_class
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        linear = figures(Path(folder), per_class)
        for what, value, bar, at_least in itertools.chain(linear, deep.figures(run, Path(folder))):
            met = value >= bar if at_least else value <= bar
            sign = ">=" if at_least else "<="
            print(f"{what:<58} {value:>10.3g}  {sign} {bar:<7g} {'ok' if met else 'MISSED'}", flush=True)
            missed += not met
    sys.exit(f"{missed} figures missed their bar" if missed else 0)


if __name__ == "__main__":
    main()
