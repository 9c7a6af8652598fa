"""Writes tests/golden: small files of what torchvision computes, for the tests that run without Python."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file as save_tensors

import pictures
import reference
import seeded

SEED = 1
GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"


class RunsACommand:
    """Leaves a file in the working directory when it is unpickled without protection."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch turret-executed-a-pickle",)


def write_features(folder: Path) -> None:
    """Writes `<architecture>.safetensors`: features of two seeded pictures with seeded weights."""
    images = {"noise": seeded.noise_image(SEED, 0), "smooth": seeded.smooth_image(SEED, 0)}
    for architecture in reference.ARCHITECTURES:
        model = reference.seeded_model(architecture, SEED)
        arrays = {
            f"{image}.{kind}": values
            for image, pixels in images.items()
            for kind, values in reference.features(model, pixels).items()
        }
        save_arrays(arrays, folder / f"{architecture}.safetensors")


def write_preprocessing(folder: Path) -> None:
    """Writes pictures of odd sizes and, as `<stem>.centre_crop.png`, torchvision's pixels of each."""
    folder.mkdir(exist_ok=True)
    wide = folder / "wide.png"
    pictures.picture(11, 293, 257, noise=0).quantize(200, dither=Image.Dither.NONE).convert("RGB").save(
        wide, optimize=True
    )
    tall = folder / "tall_grey.png"
    pictures.picture(12, 97, 301, noise=3).convert("L").save(tall, optimize=True)
    jpeg = folder / "camera.jpg"
    pictures.picture(13, 401, 263, noise=1).save(jpeg, quality=85)
    for source in (wide, tall, jpeg):
        with Image.open(source) as image:
            prepared = Image.fromarray(reference.centre_crop(image))
        prepared.save(folder / f"{source.stem}.centre_crop.png", optimize=True)


def write_checkpoints(folder: Path) -> None:
    """Writes a tiny state dict in every form that `turret base import` reads, and in some that it refuses."""
    folder.mkdir(exist_ok=True)
    # Channels-last: values in the file are not in the order of the shape.
    weight = (torch.arange(24.0) / 8).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last)
    state = OrderedDict(
        {
            "conv1.weight": weight,
            "bn1.running_var": torch.tensor([0.5, 1.5]),
            "bn1.num_batches_tracked": torch.tensor(1000),
        }
    )
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_tensors({name: value.contiguous() for name, value in state.items()}, folder / "plain.safetensors")
    parallel = OrderedDict((f"module.{name}", value) for name, value in state.items())
    training = {"epoch": 3, "state_dict": parallel, "optimizer": {"step": torch.tensor(3.0, dtype=torch.float64)}}
    torch.save(training, folder / "training.pth")
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(half, folder / "half.pth")
    torch.save(state | {"module.conv1.weight": weight}, folder / "both_names.pth")
    torch.save(state | {"bn1.running_var": torch.tensor([0.5, np.nan])}, folder / "not_a_number.pth")
    torch.save(state | {"conv1.weight": RunsACommand()}, folder / "runs_a_command.pth")
    torch.save({"conv1.weight": torch.zeros(1).expand(2**30)}, folder / "expanded.pth")


def write_golden(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_features(folder)
    write_preprocessing(folder / "preprocess")
    write_checkpoints(folder / "checkpoints")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=GOLDEN)
    write_golden(parser.parse_args().folder)
