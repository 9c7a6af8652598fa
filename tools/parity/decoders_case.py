"""What the files of all formats share: the case, the synthetic samples, the conversion to RGB8."""

import subprocess
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.uint16 | np.uint8]
Pixels = npt.NDArray[np.uint8]

FEW_SIZES = ((23, 17), (19, 13), (32, 31), (17, 1), (8, 8), (1, 1))  # width, height
LARGEST = 64  # pixels of a side when all cases are written


@dataclass(frozen=True)
class Case:
    """A file, its pixels [height, width, 3] or None if it must be refused, and how much may differ."""

    name: str
    file: bytes
    pixels: Pixels | None
    tolerance: int = 0
    may_refuse: bool = False

    @property
    def refusal(self) -> str:
        if self.pixels is None:
            return "required"
        return "allowed" if self.may_refuse else "never"


@dataclass(frozen=True)
class Scope:
    """Which cases are written: few of fixed sizes, or thousands of sizes and content that follow the seed."""

    seed: int
    everything: bool

    def count(self, few: int, everything: int) -> int:
        return everything if self.everything else few

    def rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *words))

    def size(self, index: int) -> tuple[int, int]:
        """Returns width and height of the case with this number in its family."""
        if not self.everything:
            return FEW_SIZES[index % len(FEW_SIZES)]
        width, height = self.rng(index).integers(1, LARGEST + 1, size=2)
        return int(width), int(height)

    def samples(self, size: tuple[int, int], channels: int, bits: int) -> Samples:
        """Draws [height, width, channels] samples over the full range: waves unlike in each channel, and noise.

        Equal arguments give equal samples, so that cases share their pixels in the archive.
        """
        width, height = size
        rng = self.rng(width, height, channels, bits)
        y, x = np.mgrid[0:height, 0:width]
        planes = []
        for channel in range(channels):
            angle = 0.4 + 1.1 * channel
            waves = (x * np.cos(angle) + y * np.sin(angle)) / (14 + 4 * channel) + rng.uniform()
            planes.append(0.5 + 0.48 * np.sin(2 * np.pi * waves))
        light = np.stack(planes, axis=-1) + rng.normal(0, 0.06, size=(height, width, channels))
        highest = 2**bits - 1
        return np.rint(np.clip(light, 0, 1) * highest).astype(np.uint8 if bits <= 8 else np.uint16)


def rgb8(samples: Samples, bits: int) -> Pixels:
    """Converts grey or RGB samples, with or without further channels, to RGB8, rounded to nearest."""
    highest = 2**bits - 1
    channels = samples[..., :3] if samples.shape[-1] >= 3 else np.repeat(samples[..., :1], 3, axis=-1)
    return ((channels.astype(np.uint32) * 255 + highest // 2) // highest).astype(np.uint8)


def palette(colours: int) -> Pixels:
    return np.random.default_rng(colours).integers(0, 256, size=(colours, 3), dtype=np.uint8)


def pack_bits(values: np.ndarray, bits: int) -> Pixels:
    """Packs [rows, columns] values of this many bits, highest bit first; each row is padded to a whole byte."""
    digits = values[..., None] >> np.arange(bits - 1, -1, -1, dtype=values.dtype) & 1
    return np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1)


def same(found: npt.ArrayLike, expected: npt.ArrayLike, name: str, reader: str, tolerance: int = 0) -> None:
    """Raises `ValueError` if a reference decoder reads other values than were written."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or np.abs(found.astype(np.int64) - expected).max() > tolerance:
        raise ValueError(f"{name}: {reader} reads other values than were written")


def run(*command: str, given: bytes = b"", passes: tuple[int, ...] = (0,)) -> bytes:
    """Returns the command's standard output; raises `ValueError` with its message if it fails."""
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode not in passes:
        raise ValueError(f"`{' '.join(command)}`: {done.stderr.decode().strip()}")
    return done.stdout
