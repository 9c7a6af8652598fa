"""A TIFF writer that has every layout: byte order, BigTIFF, strips and tiles, planes, compressions, several pages."""

import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import imagecodecs
import numpy as np

from decoders_case import Samples, pack_bits

NEW_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
DESCRIPTION, STRIP_OFFSETS, ORIENTATION, CHANNELS, STRIP_ROWS, STRIP_BYTES = 270, 273, 274, 277, 278, 279
MAX_SAMPLE, PLANAR, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_HEIGHT = 281, 284, 317, 320, 322, 323
TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 324, 325, 338, 339, 530
TYPES = {"B": 1, "s": 2, "H": 3, "I": 4, "Q": 16}  # codes of struct
Tags = dict[int, tuple[str, list]]


def packbits(rows: list[bytes]) -> bytes:
    return b"".join(imagecodecs.packbits_encode(row) for row in rows)


COMPRESSORS: dict[str, tuple[int, Callable[[list[bytes]], bytes]]] = {
    "none": (1, b"".join),
    "lzw": (5, lambda rows: imagecodecs.lzw_encode(b"".join(rows))),
    "deflate": (8, lambda rows: zlib.compress(b"".join(rows))),
    "old-deflate": (32946, lambda rows: zlib.compress(b"".join(rows))),
    "packbits": (32773, packbits),
    "lzma": (34925, lambda rows: lzma.compress(b"".join(rows))),
    "zstd": (50000, lambda rows: imagecodecs.zstd_encode(b"".join(rows))),
}
WITH_PREDICTOR = ("lzw", "deflate", "old-deflate")


@dataclass(frozen=True)
class Form:
    """How samples lie in the file; `tile` is width and height, and replaces the strips."""

    order: str = "<"
    big: bool = False
    planar: bool = False
    compression: str = "none"
    predictor: bool = False
    reversed_bits: bool = False
    rows: int = 5
    tile: tuple[int, int] | None = None

    def __str__(self) -> str:
        words = [
            f"tiles-{self.tile[0]}x{self.tile[1]}" if self.tile else f"strips-{self.rows}",
            self.compression + "-predictor" * self.predictor,
            "little" if self.order == "<" else "big",
        ]
        flags = {"bigtiff": self.big, "planar": self.planar, "lsb-first": self.reversed_bits}
        return "/".join([*words, *(name for name, on in flags.items() if on)])


@dataclass(frozen=True)
class Page:
    samples: Samples
    bits: int
    photometric: int
    tags: Tags = field(default_factory=dict)  # replace those of the writer


def encoded_block(samples: np.ndarray, bits: int, form: Form) -> bytes:
    """Encodes a strip or tile [rows, columns, channels]."""
    if form.predictor:
        samples = samples.copy()
        samples[:, 1:] -= samples[:, :-1].copy()
    rows = samples.reshape(len(samples), -1)
    if bits >= 8 and bits % 8 == 0:
        packed = rows.astype(rows.dtype.newbyteorder(form.order)).view(np.uint8)
    else:
        packed = pack_bits(rows, bits)
    data = COMPRESSORS[form.compression][1]([row.tobytes() for row in packed])
    return bytes(imagecodecs.bitorder_encode(data)) if form.reversed_bits else data


def encoded_blocks(samples: np.ndarray, bits: int, form: Form) -> list[bytes]:
    """Encodes all strips or tiles, plane by plane if the form is planar; tiles at the edges are padded."""
    height, width, channels = samples.shape
    planes = [samples[..., c : c + 1] for c in range(channels)] if form.planar else [samples]
    across, down = form.tile or (width, form.rows)
    blocks = []
    for plane in planes:
        for y in range(0, height, down):
            for x in range(0, width, across):
                block = plane[y : y + down, x : x + across]
                missing = ((0, down - block.shape[0]), (0, across - block.shape[1]), (0, 0))
                blocks.append(encoded_block(np.pad(block, missing, "edge") if form.tile else block, bits, form))
    return blocks


def tiff(pages: list[Page], form: Form) -> bytes:
    """Writes each page's data, then its directory, and links the directories."""
    word = "Q" if form.big else "I"
    file = bytearray(b"II" if form.order == "<" else b"MM")
    file += struct.pack(form.order + ("HHHQ" if form.big else "HI"), *((43, 8, 0, 0) if form.big else (42, 0)))
    link = len(file) - struct.calcsize("=" + word)
    for page in pages:
        offsets, blocks = [], encoded_blocks(page.samples, page.bits, form)
        for block in blocks:
            offsets.append(len(file))
            file += block + bytes(len(block) % 2)
        tags = tags_of(page, form, (word, offsets), (word, [len(block) for block in blocks])) | page.tags
        directory = append_directory(file, tags, form)
        struct.pack_into(form.order + word, file, link, directory)
        link = len(file) - struct.calcsize("=" + word)
    return bytes(file)


def tags_of(page: Page, form: Form, offsets: tuple, counts: tuple) -> Tags:
    height, width, channels = page.samples.shape
    tags = {
        WIDTH: ("H", [width]),
        HEIGHT: ("H", [height]),
        BITS: ("H", [page.bits] * channels),
        COMPRESSION: ("H", [COMPRESSORS[form.compression][0]]),
        PHOTOMETRIC: ("H", [page.photometric]),
        CHANNELS: ("H", [channels]),
        PLANAR: ("H", [2 if form.planar else 1]),
    }
    if form.tile:
        across, down = form.tile
        tags |= {TILE_WIDTH: ("H", [across]), TILE_HEIGHT: ("H", [down]), TILE_OFFSETS: offsets, TILE_BYTES: counts}
    else:
        tags |= {STRIP_ROWS: ("H", [form.rows]), STRIP_OFFSETS: offsets, STRIP_BYTES: counts}
    if form.predictor:
        tags[PREDICTOR] = ("H", [2])
    if form.reversed_bits:
        tags[FILL_ORDER] = ("H", [2])
    return tags


def append_directory(file: bytearray, tags: Tags, form: Form) -> int:
    """Appends values that are too long for their entry, then the entries; returns the directory's offset."""
    word, room = ("Q", 8) if form.big else ("I", 4)
    entries = b""
    present = {tag: value for tag, value in sorted(tags.items()) if value[1]}  # a tag without values is left out
    for tag, (kind, values) in present.items():
        count = len(values[0]) if kind == "s" else len(values)
        value = struct.pack(f"{form.order}{count}{kind}", *values)
        if len(value) > room:
            at = len(file)
            file += value + bytes(len(value) % 2)
            value = struct.pack(form.order + word, at)
        entries += struct.pack(f"{form.order}HH{word}", tag, TYPES[kind], count) + value.ljust(room, b"\0")
    directory = len(file)
    file += struct.pack(form.order + ("Q" if form.big else "H"), len(present)) + entries + bytes(room)
    return directory
