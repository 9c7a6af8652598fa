"""Numbers that Turret (`src/base/random_weights.rs`) and this folder compute bit for bit alike.

A stream is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) started at
`seed + FNV-1a-64(name)`: every tensor and every picture has its own, independent of order and size of the others.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def fnv1a_64(text: str) -> int:
    """Returns FNV-1a of the text's UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def stream(seed: int, name: str, length: int) -> npt.NDArray[np.uint64]:
    """Returns the first `length` numbers of SplitMix64 for this seed and name."""
    start = np.uint64((seed + fnv1a_64(name)) % 2**64)
    z = start + np.arange(1, length + 1, dtype=np.uint64) * GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(seed: int, name: str, length: int) -> npt.NDArray[np.float32]:
    """Returns uniform numbers in [0, 1): the upper 24 bits, exact in f32."""
    return (stream(seed, name, length) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def tensor(seed: int, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Returns the parameter of this (torchvision) name.

    Convolutions are Kaiming-uniform for ReLU (He et al. 2015), computed in f64. BatchNorm statistics differ between
    channels, so that an error in folding them shows.
    """
    u = uniform(seed, name, math.prod(shape))
    if len(shape) == 4:
        bound = math.sqrt(6 / math.prod(shape[1:]))
        values = ((2 * u.astype(np.float64) - 1) * bound).astype(np.float32)
    elif name.endswith((".weight", ".running_var")):
        values = np.float32(0.5) + u
    elif name.endswith((".bias", ".running_mean")):
        values = u - np.float32(0.5)
    else:
        raise ValueError(f"no rule for a parameter named {name}")
    return values.reshape(shape)


def base_tensors(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """Returns a base's parameters: all of the given shapes but the classifier's and counters."""
    return {
        name: tensor(seed, name, shape)
        for name, shape in shapes.items()
        if not name.startswith(("fc.", "classifier.")) and not name.endswith(".num_batches_tracked")
    }


def noise_image(seed: int, index: int) -> npt.NDArray[np.uint8]:
    """Returns [224, 224, 3] independent bytes: the highest frequencies possible."""
    return _bytes(seed, index, 224)


def smooth_image(seed: int, index: int) -> npt.NDArray[np.uint8]:
    """Returns [224, 224, 3] in squares of 16 x 16 equal pixels."""
    return _bytes(seed, index, 14).repeat(16, axis=0).repeat(16, axis=1)


def _bytes(seed: int, index: int, side: int) -> npt.NDArray[np.uint8]:
    numbers = stream(seed, f"image/{index}", side * side * 3)
    return (numbers >> np.uint64(56)).astype(np.uint8).reshape(side, side, 3)
