"""JPEG files as libjpeg-turbo's cjpeg writes them, taken apart and joined in other orders; pixels are djpeg's.

Every picture that djpeg decodes is also read with Pillow, whose libjpeg-turbo is a newer one.
"""

import io
import itertools
import tempfile
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import Image

from decoders_case import Case, Pixels, Samples, Scope, run, same

# libjpeg-turbo agrees with itself to the bit. An inverse DCT with other rounding, which T.81 permits, moves a sample
# by 1; blue takes 1.77 of Cb's error on top of Y's.
TOLERANCE = 1

EOI, SOI, SOS, SOF0, DHT = 0xD9, 0xD8, 0xDA, 0xC0, 0xC4
APP0, APP1, APP2, APP14, APP15, COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
QUALITIES = ("75", "90", "50", "30", "95", "100", "15", "5")
FACTORS = tuple(itertools.product(range(1, 5), repeat=2))  # horizontal, vertical
Sampling = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

SEQUENTIAL_SCANS = ("0;1;2;", "2;0;1;", "0,1;2;", "0;1,2;")
PROGRESSIVE_SCANS = (
    "0,1,2:0-0,0,0;0:1-63,0,0;1:1-63,0,0;2:1-63,0,0;",
    "0:0-0,0,0;2:0-0,0,0;1:0-0,0,0;2:1-63,0,0;1:1-63,0,0;0:1-5,0,0;0:6-63,0,0;",
    "0,1,2:0-0,0,2;0,1,2:0-0,2,1;0,1,2:0-0,1,0;0:1-63,0,0;1:1-63,0,0;2:1-63,0,0;",
    "0,1,2:0-0,0,1;0:1-63,0,3;0:1-63,3,2;1:1-20,0,1;1:21-63,0,1;"
    "2:1-63,0,0;0:1-63,2,1;1:1-63,1,0;0:1-63,1,0;0,1,2:0-0,1,0;",
)


def cjpeg(samples: Samples, *options: str) -> bytes:
    height, width, channels = samples.shape
    header = f"P{6 if channels == 3 else 5} {width} {height} 255\n".encode()
    return run("cjpeg", *options, given=header + samples.tobytes())


def cjpeg_scans(samples: Samples, scans: str, *options: str) -> bytes:
    with tempfile.NamedTemporaryFile("w") as script:
        script.write(scans.replace(";", ";\n"))
        script.flush()
        return cjpeg(samples, "-scans", script.name, *options)


def djpeg(file: bytes) -> Pixels:
    ppm = run("djpeg", "-rgb", "-ppm", given=file, passes=(0, 2))  # 2: with a warning
    _, size, _, body = ppm.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(body, np.uint8).reshape(height, width, 3)


def decoded(name: str, file: bytes, may_refuse: bool = False) -> Case:
    pixels = djpeg(file)
    same(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), pixels, name, "Pillow")
    return Case(f"jpeg/{name}", file, pixels, TOLERANCE, may_refuse)


def refused(name: str, file: bytes) -> Case:
    return Case(f"jpeg/{name}", file, None)


def split(file: bytes) -> list[bytes]:
    """Splits a file before each marker but restarts; scan data stays with its SOS segment."""
    pieces, at = [], 0
    while at < len(file):
        end = at + 2
        if file[at + 1] not in (SOI, EOI):
            end += int.from_bytes(file[at + 2 : at + 4], "big")
        if file[at + 1] == SOS:
            while file[end] != 0xFF or file[end + 1] == 0 or 0xD0 <= file[end + 1] <= 0xD7:
                end += 1
        pieces.append(file[at:end])
        at = end
    return pieces


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload


def adobe(transform: int) -> bytes:
    return segment(APP14, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def without(pieces: list[bytes], marker: int) -> list[bytes]:
    return [piece for piece in pieces if piece[1] != marker]


def with_ids(pieces: list[bytes], ids: bytes) -> list[bytes]:
    """Renames the three components in the frame header and the scan headers."""
    renamed = []
    for piece in map(bytearray, pieces):
        if 0xC0 <= piece[1] <= 0xC2:
            old = bytes(piece[10:19:3])
            piece[10:19:3] = ids
        elif piece[1] == SOS:
            for at in range(5, 5 + 2 * piece[4], 2):
                piece[at] = ids[old.index(piece[at])]
        renamed.append(bytes(piece))
    return renamed


def samplings() -> list[Sampling]:
    """Returns all factors that libjpeg writes: at most 10 blocks in a unit, and no fractional ratio."""
    return [
        factors
        for factors in itertools.product(FACTORS, repeat=3)
        if sum(h * v for h, v in factors) <= 10
        and all(max(f[axis] for f in factors) % f[axis] == 0 for f in factors for axis in (0, 1))
    ]


def text(sampling: Sampling, separator: str) -> str:
    return separator.join(f"{h}x{v}" for h, v in sampling)


def sampling_cases(scope: Scope) -> Iterator[Case]:
    """Varies the factors; the few cases have all factors with equal chroma and a twentieth of the others."""
    every = samplings()
    equal = [sampling for sampling in every if sampling[1] == sampling[2]]
    others = [sampling for sampling in every if sampling[1] != sampling[2]]
    chosen = every * 2 if scope.everything else equal + others[::20]
    for index, sampling in enumerate(chosen):
        size = scope.size(index) if scope.everything else ((23, 17), (32, 31))[index % 2]
        samples = scope.samples(size, 3, 8)
        options = ("-quality", QUALITIES[index % 6], "-sample", text(sampling, ","))
        name = f"{text(sampling, '-')}/{size[0]}x{size[1]}"
        yield decoded(f"baseline/{name}", cjpeg(samples, *options))
        if scope.everything or index % 5 == 0:
            yield decoded(f"progressive/{name}", cjpeg(samples, *options, "-progressive"))
        if scope.everything or index % 9 == 0:
            yield decoded(f"restart/{name}", cjpeg(samples, *options, "-restart", f"{1 + index % 3}B"))


def size_cases(scope: Scope) -> Iterator[Case]:
    """Varies the size where upsampling has edges of its own: one, two and few chroma samples."""
    sizes = [(1, 1), (2, 3), (5, 4), (7, 9), (8, 8), (17, 1), (1, 17), (16, 32)]
    if scope.everything:
        sizes = [scope.size(index) for index in range(60)]
    for (width, height), factors in itertools.product(sizes, ("2x1", "2x2", "1x2")):
        file = cjpeg(scope.samples((width, height), 3, 8), "-quality", "85", "-sample", factors)
        yield decoded(f"size/{width}x{height}/{factors}", file)


def coding_cases(scope: Scope, size: tuple[int, int]) -> Iterator[Case]:
    """Varies what the encoder offers: colours, tables, restarts, scans."""
    rgb, grey = scope.samples(size, 3, 8), scope.samples(size, 1, 8)
    tag = f"{size[0]}x{size[1]}"
    for quality in QUALITIES if scope.everything else ("100", "15", "5"):
        yield decoded(f"colour/quality-{quality}/{tag}", cjpeg(rgb, "-quality", quality))
    for quality in ("1", "10"):
        yield decoded(f"tables-8-bit/quality-{quality}/{tag}", cjpeg(rgb, "-quality", quality, "-baseline"))
        yield decoded(f"tables-16-bit/quality-{quality}/{tag}", cjpeg(rgb, "-quality", quality, "-progressive"))
    for factors in ("1x1", "2x2", "1x2", "4x4"):
        yield decoded(f"grey/{factors}/{tag}", cjpeg(grey, "-sample", factors))
    for number, factors in enumerate(("1x1,1x1,1x1", "2x1,1x1,1x1", "2x2,1x1,2x2")):
        yield decoded(f"rgb/sampling-{number}/{tag}", cjpeg(rgb, "-rgb", "-sample", factors))
    yield decoded(f"rgb/progressive/{tag}", cjpeg(rgb, "-rgb", "-progressive"))
    yield decoded(f"grey/progressive/{tag}", cjpeg(grey, "-progressive"))
    yield decoded(f"quality-per-component/{tag}", cjpeg(rgb, "-quality", "90,20", "-qslots", "1,0,1"))
    for restart in ("1B", "5B", "2"):
        for option in ("-optimize", "-progressive"):
            file = cjpeg(rgb, "-restart", restart, option, "-sample", "2x2")
            yield decoded(f"restart-{restart}/{option[1:]}/{tag}", file)
    for sampling in (((2, 2), (1, 1), (1, 1)), ((1, 2), (2, 1), (1, 1))):
        factors, name = text(sampling, ","), f"{text(sampling, '-')}/{tag}"
        yield decoded(f"optimised/{name}", cjpeg(rgb, "-optimize", "-sample", factors))
        for number, scans in enumerate(SEQUENTIAL_SCANS):
            file = cjpeg_scans(rgb, scans, "-sample", factors)
            yield decoded(f"sequential-scans-{number}/{name}", file, may_refuse=True)
        for number, scans in enumerate(PROGRESSIVE_SCANS):
            yield decoded(f"progressive-scans-{number}/{name}", cjpeg_scans(rgb, scans, "-sample", factors))
    yield refused(f"arithmetic/{tag}", cjpeg(rgb, "-arithmetic"))
    yield refused(f"arithmetic-progressive/{tag}", cjpeg(rgb, "-arithmetic", "-progressive"))


def marker_cases(scope: Scope, size: tuple[int, int]) -> Iterator[Case]:
    """Varies markers, their order, and what lies between them; the picture itself stays the same."""
    rgb = scope.samples(size, 3, 8)
    tag = f"{size[0]}x{size[1]}"
    for form, options in (("baseline", ("-sample", "2x2")), ("progressive", ("-progressive", "-sample", "2x1"))):
        pieces = split(cjpeg(rgb, *options))
        bare = without(pieces, APP0)
        soi, rest, bare_rest = pieces[:1], pieces[1:], bare[1:]
        exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        for name, parts in {
            "jfif-and-adobe-0": [*soi, rest[0], adobe(0), *rest[1:]],
            "adobe-0-and-jfif": [*soi, adobe(0), *rest],
            "jfif-and-adobe-1": [*soi, rest[0], adobe(1), *rest[1:]],
            "adobe-0": [*soi, adobe(0), *bare_rest],
            "adobe-1": [*soi, adobe(1), *bare_rest],
            "no-marker": bare,
            "ids-rgb": with_ids(bare, b"RGB"),
            "ids-rgb-jfif": with_ids(pieces, b"RGB"),
            "ids-rgb-adobe-1": with_ids([*soi, adobe(1), *bare_rest], b"RGB"),
            "ids-0-1-2": with_ids(bare, b"\0\1\2"),
            "ids-0-1-2-jfif": with_ids(pieces, b"\0\1\2"),
            "ids-others": with_ids(bare, b"\x22\x11\x07"),
            "ids-ycc": with_ids(bare, b"YCc"),
            "exif-orientation": [*soi, segment(APP1, exif), *rest],
            "exif-after-jfif": [*soi, rest[0], segment(APP1, exif), *rest[1:]],
            "comments": [*soi, rest[0], segment(COM, b"x" * 3000), segment(COM, b""), segment(APP15, b""), *rest[1:]],
            "comment-with-markers": [*soi, rest[0], segment(COM, b"\xff\xda\xff\xd9\xff\xc0"), *rest[1:]],
            "icc": [*soi, rest[0], segment(APP2, b"ICC_PROFILE\0\1\1" + bytes(128)), *rest[1:]],
            "fill-bytes": [*soi, *(b"\xff\xff\xff" + piece for piece in rest)],
            "stray-bytes": [*soi, *(piece if piece[1] in (SOS, EOI) else piece + b"\0\x12\x34" for piece in rest)],
            "stray-bytes-before-end": [*pieces[:-1], bytes(range(1, 12)), pieces[-1]],
            "data-after-end": [*pieces, b"\0trailing" + pieces[0]],
            "one-table-segment": merged_tables(pieces),
        }.items():  # fmt: skip
            yield decoded(f"markers/{form}/{name}/{tag}", b"".join(parts))
        for name, between in (("stray-after-start", b"\0\1"), ("adobe-2", adobe(2))):
            file = b"".join([*soi, between, *bare_rest])
            yield Case(f"jpeg/markers/{form}/{name}/{tag}", file, djpeg(file), TOLERANCE, may_refuse=True)
        height = next(piece for piece in pieces if 0xC0 <= piece[1] <= 0xC2)[5:7]
        unsized = [p[:5] + b"\0\0" + p[7:] if 0xC0 <= p[1] <= 0xC2 else p for p in pieces]
        first_scan = next(index for index, piece in enumerate(pieces) if piece[1] == SOS)
        dnl = [*unsized[: first_scan + 1], segment(0xDC, height), *unsized[first_scan + 1 :]]
        yield refused(f"markers/{form}/height-in-dnl/{tag}", b"".join(dnl))
    for factors in ("1x1", "2x1", "2x2"):
        for name, samples in (("colour", rgb), ("grey", rgb[..., :1])):
            file = b"".join(without(split(cjpeg(samples, "-sample", factors)), DHT))
            yield decoded(f"no-huffman-tables/{name}/{factors}/{tag}", file)
    pieces = split(cjpeg(rgb, "-restart", "1B"))
    filled = [restart_fill(piece) if piece[1] == SOS else piece for piece in pieces]
    yield decoded(f"restart-fill-bytes/{tag}", b"".join(filled), may_refuse=True)


def merged_tables(pieces: list[bytes]) -> list[bytes]:
    """Joins each run of Huffman table segments into one segment."""
    joined = []
    for marker, group in itertools.groupby(pieces, key=lambda piece: piece[1]):
        group = list(group)
        joined += [segment(DHT, b"".join(piece[4:] for piece in group))] if marker == DHT else group
    return joined


def restart_fill(scan: bytes) -> bytes:
    for number in range(0xD0, 0xD8):
        scan = scan.replace(bytes((0xFF, number)), bytes((0xFF, 0xFF, number)))
    return scan


def refused_cases(scope: Scope, size: tuple[int, int]) -> Iterator[Case]:
    tag = f"{size[0]}x{size[1]}"
    rgb, cmyk = scope.samples(size, 3, 8), scope.samples(size, 4, 8)
    deep = scope.samples(size, 3, 12)
    yield refused(f"cmyk/{tag}", imagecodecs.jpeg8_encode(cmyk, colorspace="CMYK", outcolorspace="CMYK"))
    yield refused(f"ycck/{tag}", imagecodecs.jpeg8_encode(cmyk, colorspace="CMYK", outcolorspace="YCCK"))
    yield refused(f"12-bit/{tag}", imagecodecs.jpeg8_encode(deep, bitspersample=12))
    yield refused(f"12-bit-grey/{tag}", imagecodecs.jpeg8_encode(scope.samples(size, 1, 12), bitspersample=12))
    yield refused(f"lossless/{tag}", imagecodecs.jpeg8_encode(rgb, lossless=True))
    grey = scope.samples(size, 1, 16)
    yield refused(f"lossless-grey-16/{tag}", imagecodecs.ljpeg_encode(grey, bitspersample=16))


def cases(scope: Scope) -> Iterator[Case]:
    yield from sampling_cases(scope)
    yield from size_cases(scope)
    for index in range(scope.count(1, 8)):
        yield from coding_cases(scope, scope.size(index))
        yield from marker_cases(scope, scope.size(index + 1))
        yield from refused_cases(scope, scope.size(index))
