"""Writes small picture files of every kind, and the RGB8 pixels that the reference decoders give, to one archive.

The archive is a safetensors file: `NNN.file` uint8 [bytes], `NNN.pixels` uint8 [height, width, 3], and under the key
`cases` of its metadata a JSON list of objects with name, file, pixels (null if the file must be refused), tolerance
(largest difference of a channel's value) and refusal: never, allowed or required.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import decoders_bmp_webp
import decoders_jpeg
import decoders_png
import decoders_tiff
from decoders_case import Case, Scope

FAMILIES = (decoders_bmp_webp, decoders_jpeg, decoders_png, decoders_tiff)
TOOLS = {"cjpeg": "libjpeg-turbo-progs", "djpeg": "libjpeg-turbo-progs", "tiffcp": "libtiff-tools"}


def need_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({TOOLS[tool] for tool in missing}))
        sys.exit(f"not installed: {', '.join(missing)}; install with `apt-get install {packages}`")


def write(archive: Path, cases: Iterable[Case]) -> Counter[tuple[str, str]]:
    """Writes the archive and returns how many cases it has of each family and refusal."""
    tensors, listed, counts = {}, [], Counter()
    names_of_pixels: dict[tuple[tuple[int, ...], bytes], str] = {}
    names = set()
    for number, case in enumerate(cases):
        name = f"{case.name}/{number}" if case.name in names else case.name
        names.add(name)
        file, pixels = f"{number:03}", None
        tensors[f"{file}.file"] = np.frombuffer(case.file, np.uint8)
        if case.pixels is not None:
            key = (case.pixels.shape, case.pixels.tobytes())
            pixels = names_of_pixels.setdefault(key, file)
            tensors.setdefault(f"{pixels}.pixels", np.ascontiguousarray(case.pixels))
        listed.append(
            {"name": name, "file": file, "pixels": pixels, "tolerance": case.tolerance, "refusal": case.refusal}
        )
        counts[case.name.split("/")[0], case.refusal] += 1
    save_file(tensors, archive, metadata={"cases": json.dumps(listed)})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("write",))
    parser.add_argument("archive", type=Path)
    parser.add_argument("--cases", choices=("few", "all"), default="few")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    need_tools()
    scope = Scope(arguments.seed, everything=arguments.cases == "all")
    counts = write(arguments.archive, (case for family in FAMILIES for case in family.cases(scope)))
    for (family, refusal), count in sorted(counts.items()):
        print(f"{family:<6} refusal {refusal:<9} {count:>5}")
    print(f"{sum(counts.values())} cases, {arguments.archive.stat().st_size} bytes")


if __name__ == "__main__":
    main()
