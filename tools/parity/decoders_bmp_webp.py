"""BMP files of our own writer, and WebP files of libwebp; Pillow reads all back."""

import io
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from decoders_case import Case, Pixels, Samples, Scope, pack_bits, palette, rgb8, same

CORE, INFO, V2, V3, OS2, V4, V5 = 12, 40, 52, 56, 64, 108, 124  # header sizes
UNCOMPRESSED, RLE8, RLE4, BITFIELDS = range(4)
Masks = tuple[int, ...]
BGR555, BGR565, BGR444 = (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F), (0xF00, 0xF0, 0xF)
BGRA, RGBA, BGR = (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF0000, 0xFF00, 0xFF)
RGB30 = (0x3FF00000, 0xFFC00, 0x3FF)


@dataclass(frozen=True)
class Form:
    bits: int
    header: int = INFO
    compression: int = UNCOMPRESSED
    masks: Masks = ()
    top_down: bool = False
    colours: int = 0  # of the palette; 0: as many as the depth can tell apart
    gap: int = 0  # bytes before the pixels


def bmp(body: bytes, size: tuple[int, int], form: Form, colours: Pixels) -> bytes:
    """Puts file header, header, masks and palette before the rows."""
    width, height = size
    if form.header == CORE:
        header = struct.pack("<IHHHH", CORE, width, height, 1, form.bits)
    else:
        rows = -height if form.top_down else height
        fields = (form.header, width, rows, 1, form.bits, form.compression, len(body), 2835, 2835, form.colours, 0)
        header = struct.pack("<IiiHHIIiiII", *fields)
        masks = struct.pack(f"<{len(form.masks)}I", *form.masks)
        if form.header in (INFO, V2, V3):
            header += masks.ljust(form.header - INFO, b"\0")
        elif form.header >= V4:
            header += (masks.ljust(16, b"\0") + b"BGRs").ljust(form.header - INFO, b"\0")
        header = header.ljust(form.header, b"\0")
    entries = b"".join(bytes(colour[::-1]) + b"\0" * (form.header != CORE) for colour in colours)
    start = 14 + len(header) + len(entries) + form.gap
    whole = header + entries + bytes(form.gap) + body
    return struct.pack("<2sIHHI", b"BM", 14 + len(whole), 0, 0, start) + whole


def rows_of(values: np.ndarray, form: Form) -> bytes:
    """Packs [height, width] values, bottom row first unless top-down, each row padded to four bytes."""
    values = values if form.top_down else values[::-1]
    if form.bits < 8:
        packed = pack_bits(values, form.bits)
    else:
        packed = np.ascontiguousarray(values.astype("<u4")).view(np.uint8).reshape(*values.shape, 4)
        packed = packed[..., : form.bits // 8].reshape(len(values), -1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4))).tobytes()


def masked(samples: Samples, masks: Masks) -> tuple[np.ndarray, Pixels]:
    """Returns pixel values whose channels are cut to the masks' bits, and the RGB8 that they mean."""
    values, colours = np.zeros(samples.shape[:2], np.uint32), []
    for channel, mask in enumerate(masks):
        shift, bits = (mask & -mask).bit_length() - 1, mask.bit_count()
        cut = samples[..., channel].astype(np.uint32) >> (16 - bits)
        values |= cut << np.uint32(shift)
        colours.append(rgb8(cut[..., None], bits)[..., 0])
    return values, np.stack(colours[:3], axis=-1)


def run_lengths(row: list[int], bits: int) -> bytes:
    """Encodes a row: runs of four or more (of two colours in turn for RLE4), and all else in absolute mode."""
    data, waiting, at = b"", [], 0
    turn = 8 // bits
    while at < len(row):
        length = turn
        while at + length < len(row) and length < 255 and row[at + length] == row[at + length - turn]:
            length += 1
        if length < 4 or at + length > len(row):
            waiting.append(row[at])
            at += 1
        else:
            data += absolute(waiting, bits) + bytes([length, packed(row[at : at + turn], bits)[0]])
            waiting, at = [], at + length
    return data + absolute(waiting, bits)


def packed(values: list[int], bits: int) -> bytes:
    if bits == 8:
        return bytes(values)
    return bytes(high << 4 | low for high, low in itertools.zip_longest(values[::2], values[1::2], fillvalue=0))


def absolute(values: list[int], bits: int) -> bytes:
    if len(values) < 3:  # absolute mode begins at three
        return b"".join(bytes([1, value if bits == 8 else value << 4]) for value in values)
    data = packed(values, bits)
    return bytes([0, len(values)]) + data + bytes(len(data) % 2)


def paletted_case(scope: Scope, size: tuple[int, int], name: str, form: Form) -> Case:
    count = form.colours or 2**form.bits
    colours = palette(count)
    indices = scope.samples(size, 1, 16)[..., 0].astype(np.uint32) * count >> 16
    if form.compression in (RLE8, RLE4):
        indices = indices // 40 * 40 if form.bits == 8 else indices // 3 * 3
        body = b"".join(run_lengths(row, form.bits) + b"\0\0" for row in indices[::-1].tolist())[:-2] + b"\0\1"
    else:
        body = rows_of(indices, form)
    case = Case(f"bmp/{name}/{size[0]}x{size[1]}", bmp(body, size, form, colours), colours[indices])
    # Pillow drops the last of an odd number of RLE4 values in absolute mode.
    return case if form.compression == RLE4 else checked(case)


def masked_case(scope: Scope, size: tuple[int, int], name: str, form: Form, masks: Masks, may_refuse: bool) -> Case:
    values, pixels = masked(scope.samples(size, len(masks), 16), masks)
    # Decoders widen 5 and 6 bits by rounding, by cutting or by repeating bits.
    tolerance = int(any(mask.bit_count() != 8 for mask in masks))
    file = bmp(rows_of(values, form), size, form, palette(0))
    return checked(Case(f"bmp/{name}/{size[0]}x{size[1]}", file, pixels, tolerance, may_refuse))


def checked(case: Case) -> Case:
    """Returns the case after Pillow read what was written."""
    try:
        with Image.open(io.BytesIO(case.file)) as image:
            same(image.convert("RGB"), case.pixels, case.name, "Pillow", case.tolerance)
    except OSError:  # it does not know these masks
        if not case.may_refuse:
            raise
    return case


PALETTED = {
    **{f"palette{bits}/header-{header}": Form(bits, header) for bits in (1, 4, 8) for header in (CORE, INFO, V4, V5)},
    **{f"palette{bits}/top-down": Form(bits, top_down=True) for bits in (1, 4, 8)},
    "palette4/five-colours": Form(4, colours=5),
    "palette8/hundred-colours": Form(8, colours=100),
    "palette8/gap": Form(8, gap=10),
    "rle8": Form(8, compression=RLE8),
    "rle8/hundred-colours": Form(8, V4, RLE8, colours=100),
    "rle4": Form(4, compression=RLE4),
    "rle4/nine-colours": Form(4, V5, RLE4, colours=9),
}
MASKED = {  # form, masks of the values, whether refusal is allowed
    "rgb555": (Form(16), BGR555, False),
    "rgb555/top-down": (Form(16, top_down=True), BGR555, False),
    "rgb555/masks": (Form(16, V2, BITFIELDS, BGR555), BGR555, False),
    "rgb565/masks": (Form(16, INFO, BITFIELDS, BGR565), BGR565, False),
    "rgb565/masks-v3": (Form(16, V3, BITFIELDS, BGR565), BGR565, False),
    "rgb565/masks-v5": (Form(16, V5, BITFIELDS, BGR565), BGR565, False),
    "rgb444/masks": (Form(16, V4, BITFIELDS, BGR444), BGR444, True),
    **{f"rgb24/header-{header}": (Form(24, header), BGR, False) for header in (CORE, INFO, V4, V5)},
    "rgb24/header-64": (Form(24, OS2), BGR, True),
    "rgb24/top-down": (Form(24, top_down=True), BGR, False),
    "rgb24/gap": (Form(24, gap=30), BGR, False),
    "rgb32": (Form(32), BGRA, False),  # the fourth byte is not alpha here
    "rgb32/top-down": (Form(32, top_down=True), BGRA, False),
    "rgb32/masks": (Form(32, INFO, BITFIELDS, BGR), BGRA, False),
    "rgba32/masks-v3": (Form(32, V3, BITFIELDS, BGRA), BGRA, False),
    "rgba32/masks-v4": (Form(32, V4, BITFIELDS, BGRA), BGRA, False),
    "rgba32/masks-v5": (Form(32, V5, BITFIELDS, BGRA), BGRA, False),
    "rgba32/masks-v5-red-first": (Form(32, V5, BITFIELDS, RGBA), RGBA, False),
    "rgb30/masks": (Form(32, V4, BITFIELDS, RGB30), RGB30, True),
}


def bmp_cases(scope: Scope) -> Iterator[Case]:
    for index in range(scope.count(1, 8)):
        for number, (name, form) in enumerate(PALETTED.items()):
            yield paletted_case(scope, scope.size(100 * index + number) if scope.everything else (23, 17), name, form)
        for number, (name, (form, masks, may_refuse)) in enumerate(MASKED.items()):
            size = scope.size(100 * index + number) if scope.everything else (19, 13)
            yield masked_case(scope, size, name, form, masks, may_refuse)
    for size in ((1, 1), (3, 2), (17, 1)):
        for name in ("palette1/header-40", "palette4/header-40", "rle8", "rle4"):
            yield paletted_case(scope, size, name, PALETTED[name])
        yield masked_case(scope, size, "rgb24", Form(24), BGR, False)


def webp(name: str, image: Image.Image, pixels: Pixels | None = None, **options: object) -> Case:
    """Saves a WebP; the pixels are Pillow's unless given, which they are for lossless files."""
    file = io.BytesIO()
    image.save(file, "webp", exact=True, **options)
    with Image.open(file) as read:
        found = np.asarray(read.convert("RGB"))
    if pixels is not None:
        same(found, pixels, name, "Pillow")
    return Case(f"webp/{name}/{image.width}x{image.height}", file.getvalue(), found)


def webp_cases(scope: Scope) -> Iterator[Case]:
    for index in range(scope.count(1, 10)):
        size = scope.size(index)
        rgb, rgba = scope.samples(size, 3, 8), scope.samples(size, 4, 8)
        few = palette(13)[scope.samples(size, 1, 8)[..., 0] // 20]
        for effort in (0, 6):
            for name, pixels in (("rgb", rgb), ("rgba", rgba), ("few-colours", few)):
                image = Image.fromarray(pixels)
                yield webp(f"lossless/{name}/effort-{effort}", image, pixels[..., :3], lossless=True, method=effort)
        for quality in (1, 10, 30, 50, 75, 90, 100):
            yield webp(f"lossy/rgb/quality-{quality}", Image.fromarray(rgb), quality=quality)
        for quality in (20, 80):
            image = Image.fromarray(rgba)
            yield webp(f"lossy/rgba/quality-{quality}", image, quality=quality)
            yield webp(f"lossy/rgba/quality-{quality}-alpha-50", image, quality=quality, alpha_quality=50)
        frames = [Image.fromarray(pixels[..., :3]) for pixels in (rgb, few, rgba)]
        yield webp("animated/lossless", frames[0], rgb, save_all=True, append_images=frames[1:], lossless=True)
        yield webp("animated/lossy", frames[0], save_all=True, append_images=frames[1:], quality=80)
        metadata = {"icc_profile": bytes(140), "exif": b"Exif\0\0" + bytes(20)}
        yield webp("lossless/metadata", frames[0], rgb, lossless=True, **metadata)
    for size in ((1, 1), (2, 2), (3, 5), (8, 8), (17, 1), (1, 17), (16, 16), (32, 31)):
        pixels = scope.samples(size, 3, 8)
        yield webp("lossless/size", Image.fromarray(pixels), pixels, lossless=True)
        yield webp("lossy/size", Image.fromarray(pixels), quality=70)


def cases(scope: Scope) -> Iterator[Case]:
    yield from bmp_cases(scope)
    yield from webp_cases(scope)
