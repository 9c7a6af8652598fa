"""PNG files of our own writer; pixels are those that were written, and libpng and Pillow read them back."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import Image

from decoders_case import Case, Samples, Scope, pack_bits, palette, rgb8, same

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
NAMES = {GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "grey-alpha", RGBA: "rgba"}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
# First column, first row, step across, step down of each pass (Adam7).
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
MIXED = 5  # each row has the next of the five filters
FILTERS = ("none", "sub", "up", "average", "paeth", "mixed")
Chunks = list[tuple[bytes, bytes]]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def packed_rows(samples: Samples, bits: int) -> np.ndarray:
    rows = samples.reshape(len(samples), -1)
    if bits >= 8:
        return rows.astype(f">u{bits // 8}").view(np.uint8)
    return pack_bits(rows, bits)


def filtered(rows: np.ndarray, step: int, kind: int) -> bytes:
    """Filters packed rows; `step` is the bytes of a pixel, at least 1."""
    data = b""
    before = np.zeros(rows.shape[1], int)
    for number, row in enumerate(rows.astype(int)):
        chosen = number % 5 if kind == MIXED else kind
        left, corner = (np.concatenate((np.zeros(step, int), r))[: len(r)] for r in (row, before))
        estimate = left + before - corner
        nearest = np.argmin(np.abs([estimate - left, estimate - before, estimate - corner]), axis=0)
        paeth = np.choose(nearest, (left, before, corner))
        predicted = (0 * row, left, before, (left + before) // 2, paeth)[chosen]
        data += bytes([chosen]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        before = row
    return data


def png(samples: Samples, bits: int, colour: int, filters: int, interlaced: bool, chunks: Chunks, idat: int) -> bytes:
    """Writes samples [height, width, channels]; `idat` is the most bytes of an IDAT chunk."""
    height, width, channels = samples.shape
    passes = [samples[y::down, x::across] for x, y, across, down in ADAM7] if interlaced else [samples]
    rows = [packed_rows(part, bits) for part in passes if part.size]
    data = zlib.compress(b"".join(filtered(part, max(1, bits * channels // 8), filters) for part in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    before = [(b"IHDR", header), *chunks]
    parts = [(b"IDAT", data[at : at + idat]) for at in range(0, len(data), idat)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (*before, *parts, (b"IEND", b"")))


def chunks_of(colour: int, bits: int, samples: Samples, transparent: bool) -> Chunks:
    """Returns PLTE and tRNS; grey and RGB get the first pixel's value as the transparent one."""
    chunks = [(b"PLTE", palette(2**bits).tobytes())] if colour == PALETTE else []
    if transparent:
        alphas = bytes(range(10, 10 + min(2**bits, 12)))
        chunks.append((b"tRNS", alphas if colour == PALETTE else samples[0, 0].astype(">u2").tobytes()))
    return chunks


ANCILLARY = {
    "gamma": [(b"gAMA", struct.pack(">I", 100000))],
    "srgb": [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))],
    "chromaticities": [(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))],
    "text": [(b"tEXt", b"Comment\0" + b"x" * 100), (b"zTXt", b"Title\0\0" + zlib.compress(b"y" * 900))],
    "unknown": [(b"prVt", bytes(100)), (b"quIt", b"")],
    "exif": [(b"eXIf", b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")],
    "icc": [(b"iCCP", b"profile\0\0" + zlib.compress(bytes(128)))],
}


def checked(name: str, file: bytes, samples: Samples, bits: int, colour: int, interlaced: bool) -> Case:
    """Returns the case after Pillow read it, and libpng those samples of which Pillow drops the lower byte."""
    pixels = palette(2**bits)[samples[..., 0]] if colour == PALETTE else rgb8(samples, bits)
    case = Case(f"png/{name}", file, pixels)
    with Image.open(io.BytesIO(file)) as image:
        if bits == 16 and colour == GREY:
            same(image, samples[..., 0], case.name, "Pillow")
        else:
            expected = rgb8(samples >> 8, 8) if bits == 16 else pixels
            same(image.convert("RGBA").convert("RGB"), expected, case.name, "Pillow")
    if bits == 16 and not interlaced:
        found = imagecodecs.png_decode(file)  # it adds alpha for a transparent value
        same(found.reshape(*samples.shape[:2], -1)[..., : samples.shape[2]], samples, case.name, "libpng")
    return case


def written(
    scope: Scope, size: tuple[int, int], colour: int, bits: int, words: str, filters: int = MIXED,
    interlaced: bool = False, transparent: bool = False, chunks: Chunks | None = None, idat: int = 8192,
) -> Case:  # fmt: skip
    samples = scope.samples(size, CHANNELS[colour], bits)
    chunks = (chunks or []) + chunks_of(colour, bits, samples, transparent)
    file = png(samples, bits, colour, filters, interlaced, chunks, idat)
    flags = "/adam7" * interlaced + "/transparency" * transparent
    return checked(f"{NAMES[colour]}{bits}{flags}/{words}/{size[0]}x{size[1]}", file, samples, bits, colour, interlaced)


def cases(scope: Scope) -> Iterator[Case]:
    kinds = [(colour, bits) for colour, depths in DEPTHS.items() for bits in depths]
    for index in range(scope.count(1, 8)):
        for number, ((colour, bits), interlaced) in enumerate(itertools.product(kinds, (False, True))):
            size = scope.size(index * 40 + number) if scope.everything else (23, 17)
            yield written(scope, size, colour, bits, f"plain-{index}", interlaced=interlaced)
            if colour not in (GREY_ALPHA, RGBA) and (scope.everything or not interlaced):
                yield written(scope, size, colour, bits, f"plain-{index}", interlaced=interlaced, transparent=True)
    for number, filters in enumerate(FILTERS):
        yield written(scope, (19, 13), RGB, 8, filters, filters=number)
    for width, height in ((1, 1), (2, 3), (5, 1), (1, 5), (32, 31)):
        yield written(scope, (width, height), RGB, 8, "small", interlaced=True)
        yield written(scope, (width, height), GREY, 1, "small", interlaced=True)
    for idat in (1, 7, 100):
        yield written(scope, (19, 13), RGB, 8, f"idat-{idat}", idat=idat)
    for name, chunks in ANCILLARY.items():
        yield written(scope, (19, 13), RGB, 8, name, chunks=chunks)
    for colour, bits, significant in ((RGB, 8, b"\5\6\5"), (GREY, 16, b"\x0c"), (RGB, 16, b"\x0a\x0a\x0a")):
        yield written(scope, (19, 13), colour, bits, "significant-bits", chunks=[(b"sBIT", significant)])
    yield written(scope, (19, 13), RGB, 8, "suggested-palette", chunks=[(b"PLTE", palette(16).tobytes())])
    yield written(scope, (19, 13), GREY, 16, "gamma", chunks=ANCILLARY["gamma"])
