"""TIFF files of our own writer and of libtiff's tiffcp; pixels are those that were written.

tifffile reads every sample back, and Pillow (libtiff) the compressed pictures of up to 8 bits that it knows.
"""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

import tiff_writer as tags
from decoders_case import Case, Pixels, Samples, Scope, palette, rgb8, run, same
from tiff_writer import COMPRESSORS, WITH_PREDICTOR, Form, Page, Tags, tiff


@dataclass(frozen=True)
class Kind:
    """A layout of samples and the colours that they mean; the file must be refused if `pixels` is None."""

    name: str
    bits: int
    channels: int
    photometric: int
    pixels: Callable[[Samples, int], Pixels] | None = rgb8
    extra: tuple[int, ...] = ()  # 0 unspecified, 1 associated alpha, 2 unassociated alpha
    tolerance: int = 0
    may_refuse: bool = False
    tags: Tags = field(default_factory=dict)

    def page(self, samples: Samples) -> Page:
        extra = {tags.EXTRA_SAMPLES: ("H", list(self.extra))}
        return Page(samples, self.bits, self.photometric, extra | self.tags)

    def case(self, name: str, file: bytes, samples: Samples) -> Case:
        pixels = self.pixels(samples, self.bits) if self.pixels else None
        return Case(f"tiff/{name}", file, pixels, self.tolerance, self.may_refuse)


def first_channel(samples: Samples, bits: int) -> Pixels:
    return rgb8(samples[..., :1], bits)


def inverted(samples: Samples, bits: int) -> Pixels:
    return 255 - rgb8(samples, bits)


def unpremultiplied(samples: Samples, bits: int) -> Pixels:
    alpha = np.maximum(samples[..., -1:], 1).astype(np.float64)
    colour = np.minimum(samples[..., :-1] / alpha, 1)
    return np.rint(np.broadcast_to(colour, (*colour.shape[:2], 3)) * 255).astype(np.uint8)


def color_map(bits: int) -> list[int]:
    """Returns all red values, then green, then blue, scaled to 16 bits."""
    return (palette(2**bits).T.astype(int) * 257).ravel().tolist()


def paletted(samples: Samples, bits: int) -> Pixels:
    return palette(2**bits)[samples[..., 0]]


def ycbcr(samples: Samples, bits: int) -> Pixels:
    return np.asarray(Image.fromarray(samples, "YCbCr").convert("RGB"))


RARE = ("lzma", "zstd")
EVERYWHERE = tuple(name for name in COMPRESSORS if name not in RARE)
WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
KINDS = (
    *(Kind(f"grey{b}", b, 1, BLACK) for b in (1, 2, 4, 8, 16)),
    *(Kind(f"grey{b}-white-zero", b, 1, WHITE, inverted) for b in (1, 2, 4, 8, 16)),
    Kind("grey12", 12, 1, BLACK, tolerance=1, may_refuse=True),
    Kind("grey12-white-zero", 12, 1, WHITE, inverted, tolerance=1, may_refuse=True),
    *(Kind(f"palette{b}", b, 1, PALETTE, paletted, tags={tags.COLOR_MAP: ("H", color_map(b))}) for b in (1, 2, 4, 8)),
    *(Kind(f"rgb{b}", b, 3, RGB) for b in (8, 16)),
    *(Kind(f"rgba{b}", b, 4, RGB, extra=(2,)) for b in (8, 16)),
    *(Kind(f"rgbx{b}", b, 4, RGB, extra=(0,)) for b in (8, 16)),
    *(Kind(f"rgba{b}-associated", b, 4, RGB, unpremultiplied, (1,), 1, True) for b in (8, 16)),
    Kind("rgb8-two-extra", 8, 5, RGB, extra=(0, 0), may_refuse=True),
    *(Kind(f"grey-alpha{b}", b, 2, BLACK, extra=(2,)) for b in (8, 16)),
    Kind("grey-extra8", 8, 2, BLACK, extra=(0,)),
    Kind("grey-alpha8-associated", 8, 2, BLACK, unpremultiplied, (1,), 1, True),
    Kind("grey8-two-extra", 8, 3, BLACK, first_channel, extra=(0, 0), may_refuse=True),
    Kind("rgb4", 4, 3, RGB, may_refuse=True),
    Kind("ycbcr8", 8, 3, YCBCR, ycbcr, tolerance=2, may_refuse=True, tags={tags.SUBSAMPLING: ("H", [1, 1])}),
    *(Kind(f"cmyk{b}", b, 4, CMYK, None) for b in (8, 16)),
    Kind("lab8", 8, 3, LAB, None),
    *(Kind(f"grey-signed{b}", b, 1, BLACK, None, tags={tags.SAMPLE_FORMAT: ("H", [2])}) for b in (8, 16)),
    Kind("rgb-signed8", 8, 3, RGB, None, tags={tags.SAMPLE_FORMAT: ("H", [2] * 3)}),
    Kind("grey-float16", 16, 1, BLACK, None, tags={tags.SAMPLE_FORMAT: ("H", [3])}),
    Kind("grey-float32", 32, 1, BLACK, None, tags={tags.SAMPLE_FORMAT: ("H", [3])}),
    Kind("rgb-float32", 32, 3, RGB, None, tags={tags.SAMPLE_FORMAT: ("H", [3] * 3)}),
    Kind("grey32", 32, 1, BLACK, None),
    Kind("rgb32", 32, 3, RGB, None),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def samples_of(kind: Kind, scope: Scope, size: tuple[int, int]) -> Samples:
    """Draws samples; associated alpha is at least a third and no less than the colours."""
    if kind.bits == 32:
        wide = np.float32 if "float" in kind.name else np.uint32
        return scope.samples(size, kind.channels, 16).astype(wide).view(np.uint32)
    samples = scope.samples(size, kind.channels, kind.bits)
    if kind.extra == (1,):
        samples[..., -1] = np.maximum(samples[..., -1], (2**kind.bits - 1) // 3)
        samples[..., :-1] = np.minimum(samples[..., :-1], samples[..., -1:])
    return samples


def checked(case: Case, samples: Samples, form: Form, page: int = 0) -> Case:
    """Returns the case after tifffile and, where it may know the file, Pillow read what was written."""
    with tifffile.TiffFile(io.BytesIO(case.file)) as opened:
        found = opened.pages[page].asarray()
    found = found.view(np.uint8 if found.dtype == bool else f"u{found.itemsize}")
    expected = np.moveaxis(samples, -1, 0) if form.planar else samples
    same(found.reshape(expected.shape), expected, case.name, "tifffile")
    # Pillow reads uncompressed data without libtiff, not always rightly, and no big-endian BigTIFF.
    known = form.compression != "none" and not (form.big and form.order == ">")
    if known and case.pixels is not None and samples.dtype == np.uint8:
        with contextlib.suppress(OSError):  # it does not know this combination
            same(pillow(case.file, page), case.pixels, case.name, "Pillow", case.tolerance)
    return case


def pillow(file: bytes, page: int = 0) -> Pixels:
    with Image.open(io.BytesIO(file)) as image:
        image.seek(page)
        return np.asarray(image.convert("RGB"))


def written(name: str, kind: Kind, form: Form, scope: Scope, size: tuple[int, int]) -> Case:
    samples = samples_of(kind, scope, size)
    case = kind.case(f"{name}/{size[0]}x{size[1]}", tiff([kind.page(samples)], form), samples)
    return checked(replace(case, may_refuse=case.may_refuse or form.compression in RARE), samples, form)


def layout_cases(scope: Scope) -> Iterator[Case]:
    """Combines all layouts, compressions and predictors for RGB."""
    layouts = [{"rows": 1}, {"rows": 5}, {"rows": 100}, {"tile": (16, 16)}, {"tile": (32, 16)}]
    for index, (layout, compression) in enumerate(itertools.product(layouts, EVERYWHERE)):
        size = scope.size(index) if scope.everything else (23, 17)
        for predictor in (False, True) if compression in WITH_PREDICTOR else (False,):
            form = Form(compression=compression, predictor=predictor, **layout)
            yield written(f"layout/{form}", BY_NAME["rgb8"], form, scope, size)
    for compression in RARE:
        yield written(f"layout/{compression}", BY_NAME["rgb8"], Form(compression=compression), scope, (23, 17))
    for name, compression in itertools.product(("grey1", "rgb8"), ("none", "lzw", "deflate", "packbits")):
        form = Form(compression=compression, reversed_bits=True)
        yield written(f"layout/{name}/{form}", BY_NAME[name], form, scope, (23, 17))
    for name, order in itertools.product(("grey16", "rgb16"), "<>"):
        form = Form(order, compression="lzw", predictor=True, tile=(16, 16))
        yield written(f"layout/{name}/{form}", BY_NAME[name], form, scope, (23, 17))


def mixed_cases(scope: Scope) -> Iterator[Case]:
    """Gives each kind of samples forms in which all else is drawn; the first is plain."""
    for index, kind in enumerate(KINDS * scope.count(2, 40)):
        rng = scope.rng(index)
        compression = str(rng.choice(EVERYWHERE))
        form = Form(
            order=str(rng.choice(["<", ">"])),
            big=bool(rng.integers(4) == 0),
            planar=bool(kind.channels > 1 and rng.integers(2)),
            compression=compression,
            predictor=bool(compression in WITH_PREDICTOR and kind.bits in (8, 16) and rng.integers(2)),
            reversed_bits=bool(rng.integers(4) == 0),
            rows=int(rng.integers(1, 12)),
            tile=(None, None, (16, 16), (32, 16), (16, 48))[rng.integers(5)],
        )
        form = Form() if index < len(KINDS) else form
        name = f"{kind.name}/{form}/{index}" if scope.everything else f"{kind.name}/{form}"
        yield written(name, kind, form, scope, scope.size(index) if scope.everything else (19, 13))


def page_cases(scope: Scope) -> Iterator[Case]:
    """Varies the pages; the right one is the first that is not a reduced version of another."""
    full, other, small = (Page(scope.samples(size, 3, 8), 8, RGB) for size in ((23, 17), (19, 13), (8, 8)))
    reduced, of_many = ({tags.NEW_SUBFILE_TYPE: ("I", [value])} for value in (1, 2))
    small, other_reduced = replace(small, tags=reduced), replace(other, tags=reduced)
    for name, right, pages in (
        ("several", 0, [full, other, full]),
        ("several-numbered", 0, [replace(full, tags=of_many), replace(other, tags=of_many)]),
        ("reduced-first", 1, [small, full]),
        ("reduced-first-two", 2, [small, other_reduced, full]),
        ("reduced-first-of-several", 1, [small, full, other]),
        ("reduced-last", 0, [full, small]),
    ):
        for form in (Form(), Form(">", big=True, compression="lzw", tile=(16, 16))):
            case = Case(f"tiff/pages/{name}/{form}", tiff(pages, form), rgb8(pages[right].samples, 8))
            yield checked(case, pages[right].samples, form, right)


def tag_cases(scope: Scope) -> Iterator[Case]:
    """Varies tags that do not change the pixels, and leaves out those that have a default."""
    absent = ("H", [])
    defaults = {tag: absent for tag in (tags.COMPRESSION, tags.CHANNELS, tags.PLANAR)}
    orientations = [(f"orientation-{n}", "rgb8", {tags.ORIENTATION: ("H", [n])}, False) for n in range(1, 9)]
    texts = (b"\0", b"x" * 500 + b"\0", b"without end", b"\xe4\xf6\xfc\0", b"ImageJ=1.53\nimages=9\n\0")
    unknown = {65000: ("B", list(range(99))), 65001: ("Q", [7]), 305: ("s", [b"a program\0"])}
    descriptions = [(f"description-{n}", "rgb8", {tags.DESCRIPTION: ("s", [t])}, False) for n, t in enumerate(texts)]
    for name, kind, changed, may_refuse in (
        *orientations,
        *descriptions,
        ("unknown-tags", "rgb8", unknown, False),
        ("long-sizes", "rgb8", {tags.WIDTH: ("I", [23]), tags.HEIGHT: ("I", [17])}, False),
        ("one-depth-for-all", "rgb8", {tags.BITS: ("H", [8])}, True),
        ("no-extra-samples", "rgbx8", {tags.EXTRA_SAMPLES: absent}, True),
        ("unsigned", "rgb16", {tags.SAMPLE_FORMAT: ("H", [1] * 3)}, False),
        ("format-undefined", "rgb8", {tags.SAMPLE_FORMAT: ("H", [4] * 3)}, True),
        ("one-strip-of-any-rows", "rgb8", {tags.STRIP_ROWS: ("I", [2**32 - 1])}, False),
        ("no-strip-rows", "rgb8", {tags.STRIP_ROWS: absent}, False),
        ("defaults", "grey8", defaults, False),
        ("defaults", "grey1", defaults | {tags.BITS: absent}, False),
    ):
        kind, form = BY_NAME[kind], Form(rows=17)
        samples = samples_of(kind, scope, (23, 17))
        page = kind.page(samples)
        file = tiff([replace(page, tags=page.tags | changed)], form)
        case = kind.case(f"tags/{kind.name}/{name}", file, samples)
        yield checked(replace(case, may_refuse=may_refuse), samples, form)
    for channels, photometric in ((1, BLACK), (1, WHITE), (3, RGB)):
        samples = scope.samples((23, 17), channels, 12)
        pixels = inverted(samples, 16) if photometric == WHITE else rgb8(samples, 16)
        file = tiff([Page(samples, 16, photometric, {tags.MAX_SAMPLE: ("H", [4095] * channels)})], Form())
        yield checked(Case(f"tiff/tags/max-sample-4095/{photometric}", file, pixels), samples, Form())


def subsampled_cases(scope: Scope) -> Iterator[Case]:
    """Writes uncompressed and LZW YCbCr whose units are 2x2 luma samples and one of each chroma."""
    width, height = size = (20, 12)
    luma, chroma = scope.samples(size, 1, 8), scope.samples((width // 2, height // 2), 2, 8)
    quads = luma.reshape(height // 2, 2, width // 2, 2).swapaxes(1, 2).reshape(height // 2, width // 2, 4)
    units = np.concatenate((quads, chroma), axis=-1).reshape(height // 2, -1, 1)
    pixels = ycbcr(np.concatenate((luma, chroma.repeat(2, axis=0).repeat(2, axis=1)), axis=-1), 8)
    for compression in ("none", "lzw"):
        file = tiff([Page(units, 8, YCBCR, {
            tags.WIDTH: ("H", [width]), tags.HEIGHT: ("H", [height]), tags.BITS: ("H", [8] * 3),
            tags.CHANNELS: ("H", [3]), tags.STRIP_ROWS: ("H", [4]), tags.SUBSAMPLING: ("H", [2, 2]),
        })], Form(rows=2, compression=compression))  # fmt: skip
        case = Case(f"tiff/ycbcr-subsampled/{compression}", file, pixels, tolerance=2, may_refuse=True)
        if compression != "none":
            same(pillow(file), pixels, case.name, "Pillow", case.tolerance)
        yield case


def tiffcp(file: bytes, *options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.tif"), Path(folder, "target.tif")
        source.write_bytes(file)
        run("tiffcp", *options, str(source), str(target))
        return target.read_bytes()


def libtiff_cases(scope: Scope) -> Iterator[Case]:
    """Has libtiff write what our writer wrote, and what it cannot: CCITT and JPEG compression."""
    names = ("grey1", "grey4-white-zero", "grey8", "palette8", "rgb8", "rgba8", "grey16", "rgb16")
    for index, name in enumerate(names * scope.count(2, 20)):
        rng, kind, size = scope.rng(index, 1), BY_NAME[name], scope.size(index) if scope.everything else (23, 17)
        samples = samples_of(kind, scope, size)
        compressions = ("none", "lzw", "zip", "packbits") + ("lzw:2", "zip:2") * (kind.bits >= 8)
        compression = str(rng.choice(compressions))
        # tiffcp writes wrong values for 16-bit planes in tiles.
        planar = kind.channels > 1 and kind.bits == 8 and bool(rng.integers(2))
        layout = (("-s", "-r", str(rng.integers(1, 9))), ("-t", "-w", "16", "-l", "32"))[rng.integers(2)]
        options = ["-c", compression, "-p", "separate" if planar else "contig", *layout, ("-B", "-L")[rng.integers(2)]]
        options += ["-8"] * int(rng.integers(2)) + ["-f", "lsb2msb"] * int(rng.integers(2))
        file = tiffcp(tiff([kind.page(samples)], Form()), *options)
        words = "-".join(option.strip("-") for option in options)
        case = kind.case(f"libtiff/{name}/{words}/{index}", file, samples)
        yield checked(case, samples, Form(planar=planar))
    for name, coding, fill in itertools.product(
        ("grey1", "grey1-white-zero"), ("g3:1d", "g3:2d", "g3:2d:fill", "g4"), ("msb2lsb", "lsb2msb")
    ):
        kind, rows = BY_NAME[name], "5" if fill == "lsb2msb" else "100"
        samples = samples_of(kind, scope, (23, 17))
        file = tiffcp(tiff([kind.page(samples)], Form()), "-c", coding, "-f", fill, "-r", rows)
        case = replace(kind.case(f"libtiff/{name}/{coding}/{fill}", file, samples), may_refuse=True)
        same(pillow(file), case.pixels, case.name, "Pillow")
        yield case
    for (name, coding), layout in itertools.product(
        (("grey8", "jpeg:90"), ("rgb8", "jpeg:90"), ("rgb8", "jpeg:r:90")),
        (("-s", "-r", "16"), ("-t", "-w", "16", "-l", "16")),
    ):
        samples = samples_of(BY_NAME[name], scope, (23, 17))
        file = tiffcp(tiff([BY_NAME[name].page(samples)], Form()), "-c", coding, *layout)
        yield Case(f"tiff/libtiff/{name}/{coding}/{layout[0][1:]}", file, pillow(file), tolerance=3, may_refuse=True)


def cases(scope: Scope) -> Iterator[Case]:
    for family in (layout_cases, mixed_cases, page_cases, tag_cases, subsampled_cases, libtiff_cases):
        yield from family(scope)
