"""Compares Turret with torchvision: weights of three formats, features, prepared pixels, and the committed goldens.

Prints a line per figure with its bar; exits with 1 if a bar is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import save_file as save_tensors

import pictures
import reference
import seeded
import write_golden

FEATURE_BAR = 1e-4  # relative error, fp32, equal pixels
GOLDEN_BAR = 1e-5  # torchvision against itself on another processor
JPEG_FEATURE_BAR = 0.01  # relative distance: decoders may differ by a level
PIXEL_BAR = 0.999  # share of bytes at most one level off
SIZES = ((61, 97), (97, 61), (223, 225), (257, 256), (333, 251), (641, 479), (777, 1001), (1499, 1123))
# Channels of each stage, averages then maxima: the blocks of `pyramid` differ in scale a thousandfold.
RESNET_BLOCKS = np.cumsum((64, 64, 128, 128, 256, 256, 512))
PYRAMID_BLOCKS = {1920: RESNET_BLOCKS, 2944: np.append(RESNET_BLOCKS, (1920, 2432))}


@dataclass(frozen=True)
class Figure:
    what: str
    value: float
    bar: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{self.what:<58} {self.value:>10.3g}  {sign} {self.bar:<7g} {'ok' if self.met else 'MISSED'}"


def turret(binary: Path, *arguments: str | Path) -> str:
    """Returns the command's standard output; exits if the command fails."""
    command = [str(binary), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(command[:4])} ...` ended with status {done.returncode}")
    return done.stdout


def save_pictures(folder: Path) -> list[Path]:
    """Saves PNGs in all `PNG_MODES` and JPEGs, colour and grey, of odd sizes."""
    paths = []
    for index, (width, height) in enumerate(SIZES):
        image = pictures.picture(100 + index, width, height, noise=4)
        mode = pictures.PNG_MODES[index % len(pictures.PNG_MODES)]
        paths += [folder / f"png_{mode}_{width}x{height}.png", folder / f"jpeg_{width}x{height}.jpg"]
        pictures.in_mode(image, mode).save(paths[-2])
        pictures.in_mode(image, "L" if index == 3 else "RGB").save(paths[-1], quality=90, subsampling=index % 3)
    return paths


def import_all_formats(binary: Path, architecture: str, folder: Path) -> tuple[Path, torch.nn.Module, Figure]:
    """Imports a random model from three formats; returns a base, the model, and the number of digests."""
    model = reference.random_model(architecture, seed=5)
    state = model.state_dict()
    sources = [folder / f"{architecture}_{name}" for name in ("zip.pth", "legacy.pth", "plain.safetensors")]
    torch.save(state, sources[0])
    torch.save(state, sources[1], _use_new_zipfile_serialization=False)
    save_tensors(state, sources[2])
    digests = set()
    for source in sources:
        base = source.with_name(f"{source.name}.base.safetensors")
        turret(binary, "base", "import", source, "-o", base)
        with safe_open(base, "numpy") as file:
            digests.add(file.metadata()["digest"])
    return base, model, Figure(f"{architecture}: digests of .pth zip, .pth legacy, .safetensors", len(digests), 1)


def pyramid_error(found: list[float], expected: np.ndarray) -> float:
    """Returns the worst block's error; over the whole vector, layer4 would hide errors in layer1."""
    if len(found) != len(expected):
        return float("inf")
    ends = PYRAMID_BLOCKS[len(expected)]
    blocks = zip(np.split(np.asarray(found), ends), np.split(expected, ends), strict=True)
    return float(np.max([reference.relative_error(f, e) for f, e in blocks]))


def check_base(binary: Path, architecture: str, images: list[Path], folder: Path) -> Iterator[Figure]:
    """Checks weights, features of the pixels that Turret prepared, and features of JPEG files end to end."""
    base, model, formats = import_all_formats(binary, architecture, folder)
    yield formats
    prepared = folder / f"prepared_{architecture}"
    prepared.mkdir()
    lines = turret(
        binary, "base", "features", "--base", base, "--preprocess", "centre_crop", "--json",
        "--dump-pixels", prepared, *images,
    )  # fmt: skip
    rows = [json.loads(line) for line in lines.splitlines()]
    if [Path(row["path"]) for row in rows] != images:
        sys.exit(f"turret answered for other pictures than the {len(images)} given, or in another order")
    gap, pyramid, end_to_end = [], [], {"gap": [0.0], "pyramid": [0.0]}
    for row, path in zip(rows, images, strict=True):
        expected = reference.features(model, np.asarray(Image.open(prepared / f"{path.stem}.png")))
        gap.append(reference.relative_error(row["gap"], expected["gap"]))
        pyramid.append(pyramid_error(row["pyramid"], expected["pyramid"]))
        if path.suffix == ".jpg":
            own = reference.features(model, reference.centre_crop(Image.open(path)))
            for kind, distances in end_to_end.items():
                distances.append(reference.relative_distance(row[kind], own[kind]))
    yield Figure(f"{architecture}: gap, largest relative error", float(np.max(gap)), FEATURE_BAR)
    yield Figure(f"{architecture}: pyramid, largest relative error of a block", float(np.max(pyramid)), FEATURE_BAR)
    for kind, distances in end_to_end.items():
        worst = float(np.max(distances))
        yield Figure(f"{architecture}: {kind} from JPEG file, relative distance", worst, JPEG_FEATURE_BAR)


def check_pixels(images: list[Path], prepared: Path) -> Iterator[Figure]:
    """Checks prepared pixels against Pillow's decoder and torchvision's Resize and CenterCrop."""
    for path in images:
        expected = reference.centre_crop(Image.open(path)).astype(int)
        found = np.asarray(Image.open(prepared / f"{path.stem}.png")).astype(int)
        close = float((np.abs(found - expected) <= 1).mean()) if found.shape == expected.shape else 0.0
        yield Figure(f"{path.name}: bytes at most 1 level off", close, PIXEL_BAR, at_least=True)


def check_golden(folder: Path) -> Iterator[Figure]:
    """Checks that the committed goldens equal what torchvision computes now."""
    write_golden.write_golden(folder)
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    committed = {p.relative_to(write_golden.GOLDEN) for p in write_golden.GOLDEN.rglob("*") if p.is_file()}
    yield Figure("tests/golden: missing or unexpected files", len(names ^ committed), 0)
    for name in sorted(names & committed):
        yield Figure(f"tests/golden/{name}", _difference(folder / name, write_golden.GOLDEN / name), GOLDEN_BAR)


def _difference(fresh: Path, committed: Path) -> float:
    if fresh.suffix == ".safetensors":
        found, expected = load_arrays(fresh), load_arrays(committed)
        if found.keys() != expected.keys():
            return float("inf")
        return float(np.max([reference.relative_error(found[name], expected[name]) for name in expected]))
    if fresh.name == "legacy.pth":  # its storage keys are addresses, which differ in every run
        return float(str(torch.load(fresh, weights_only=True)) != str(torch.load(committed, weights_only=True)))
    return float(fresh.read_bytes() != committed.read_bytes())


def check_generator() -> Iterator[Figure]:
    """Checks published values: FNV-1a of "a", and the first SplitMix64 number for state 0."""
    state_zero = -seeded.fnv1a_64("a") % 2**64
    right = seeded.fnv1a_64("a") == 0xAF63DC4C8601EC8C and seeded.stream(state_zero, "a", 1)[0] == 0xE220A8397B1DCDAF
    yield Figure("generator of the seeded weights", float(not right), 0)


def check_all(binary: Path, folder: Path) -> Iterator[Figure]:
    yield from check_generator()
    yield from check_golden(folder / "golden")
    images = save_pictures(folder)
    for architecture in reference.ARCHITECTURES:
        yield from check_base(binary, architecture, images, folder)
    yield from check_pixels(images, folder / f"prepared_{reference.ARCHITECTURES[0]}")


def main() -> None:
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turret", type=Path, default=root / "target" / "release" / "turret")
    binary = parser.parse_args().turret
    if not binary.is_file():
        sys.exit(f"{binary} does not exist: build it with `cargo build --release` or name another with --turret")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for figure in check_all(binary, Path(folder)):
            print(figure, flush=True)
            missed += not figure.met
    sys.exit(f"{missed} figures missed their bar" if missed else 0)


if __name__ == "__main__":
    main()
