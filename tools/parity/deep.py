"""Compares a deep head with torchvision's network whose layers are replaced by the head's."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import reference

ARCHITECTURE = "resnet34"
FEATURE_BAR = 1e-4  # relative error, as for the base itself
EPOCHS = 2
Run = Callable[..., str]


def digest_of(base: Path) -> str:
    with safe_open(base, "numpy") as file:
        return file.metadata()["digest"]


def figures(run: Run, folder: Path) -> Iterator[tuple[str, float, float, bool]]:
    """Yields name, value, bar, and whether the value must be at least the bar."""
    model = reference.random_model(ARCHITECTURE, seed=5)
    checkpoint, base, data = folder / "torchvision.safetensors", folder / "deep-base.safetensors", folder / "deep-data"
    save_file(model.state_dict(), checkpoint)
    run("turret", "base", "import", checkpoint, "-o", base)
    run("surfaces", data, "--per-class", "6")
    before = digest_of(base)
    for unfreeze, feature_set in (("layer4.2", "gap"), ("layer4", "pyramid")):
        lines = run(
            "fine-tune", "train", data, "--task", f"deep-{feature_set}", "--base", base, "--heads", folder / "deep-heads",
            "--strategy", "fine-tune", "--unfreeze", unfreeze, "--fine-tune-epochs", str(EPOCHS), "--no-cache",
            "--features", feature_set, "--output", "json",
        )  # fmt: skip
        published = [line for line in map(json.loads, lines.splitlines()) if line["event"] == "published"][-1]
        with safe_open(published["path"], "pt") as head:
            tensors = {name: head.get_tensor(name) for name in head.keys()}  # noqa: SIM118
        own = {name: value for name, value in tensors.items() if name.startswith(f"{unfreeze}.")}
        learned = [name for name, value in own.items() if not torch.equal(value, model.state_dict()[name])]
        replaced = copy.deepcopy(model)
        _, unexpected = replaced.load_state_dict(own, strict=False)
        rows = zip(tensors["reference.pixels"], tensors["reference.features"], strict=True)
        pairs = [(found.numpy(), reference.features(replaced, pixels.numpy())[feature_set]) for pixels, found in rows]
        worst = max(float(reference.relative_error(found, expected)) for found, expected in pairs)
        convolutions = [name for name, value in own.items() if value.ndim == 4]
        yield f"{unfreeze}: tensors that torchvision does not know", len(unexpected), 0, False
        yield f"{unfreeze}: convolutions that learned, share", len(learned) / len(convolutions), 1, True
        yield f"{unfreeze}: {feature_set} beside torchvision's, relative error", worst, FEATURE_BAR, False
    run("turret", "base", "inspect", base)  # recomputes its digest
    yield "the base's digest: changed by training", float(digest_of(base) != before), 0, False
