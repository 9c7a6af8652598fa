#!/usr/bin/env bash
# Finds libtorch 2.11.0, or installs it into .libtorch/, and points .libtorch/current at it.
#
# Taken from $LIBTORCH, else from an installed Python torch 2.11.0, else installed from the Python registry: the small
# CPU set where there is no NVIDIA driver, the full one where there is. LIBTORCH_SET=cpu|full chooses by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=2.11.0
# What libtorch_cpu.so of the wheel is linked against, enough to run it without a GPU; and with the last, CUDA's headers.
readonly cpu_needs=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
readonly cuda_headers=nvidia-cuda-crt==13.0.88
readonly here=.libtorch

say() { printf 'libtorch: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

is_libtorch() { [ -f "$1/lib/libtorch_cpu.so" ] && [ -f "$1/include/torch/csrc/api/include/torch/torch.h" ]; }

# The version of a libtorch folder: the file `build-version` of a zip, or `version.py` of a wheel.
version_of() {
    if [ -f "$1/build-version" ]; then
        sed 's/+.*//' "$1/build-version"
    elif [ -f "$1/version.py" ]; then
        sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$1/version.py"
    fi
}

point_at() {
    mkdir -p "$here"
    ln -sfn "$1" "$here/current"
    say "using $1"
    exit 0
}

# The folder of an installed Python torch of the right version; torch itself is not imported.
installed_torch() {
    command -v python3 >/dev/null || return 1
    python3 - "$version" <<'PY' 2>/dev/null
import importlib.metadata, importlib.util, os, sys
assert importlib.metadata.version("torch").split("+")[0] == sys.argv[1]
print(os.path.dirname(importlib.util.find_spec("torch").origin))
PY
}

# The exported LIBTORCH; the one that .cargo/config.toml sets for cargo is our own link.
if [ -n "${LIBTORCH:-}" ] && [ "$LIBTORCH" != "$PWD/$here/current" ]; then
    is_libtorch "$LIBTORCH" || die "LIBTORCH=$LIBTORCH is no libtorch: lib/libtorch_cpu.so or its headers are missing"
    found=$(version_of "$LIBTORCH")
    [ "$found" = "$version" ] || die "LIBTORCH=$LIBTORCH is version ${found:-unknown}, $version is wanted"
    point_at "$(cd "$LIBTORCH" && pwd)"
fi

if [ -z "${LIBTORCH_SET:-}" ]; then
    if [ -e "$here/current" ] && is_libtorch "$here/current" && [ "$(version_of "$here/current")" = "$version" ]; then
        exit 0
    fi
    if torch=$(installed_torch) && is_libtorch "$torch"; then
        point_at "$torch"
    fi
fi

command -v python3 >/dev/null || die "python3 is missing: install Python 3.10 or later, or set LIBTORCH"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$(python3 --version) is too old: install Python 3.10 or later, or set LIBTORCH"
python3 -c 'import venv, ensurepip' 2>/dev/null ||
    die "Python's venv is missing: install it (Debian and Ubuntu: apt-get install python3-venv), or set LIBTORCH"

set=${LIBTORCH_SET:-}
if [ -z "$set" ]; then
    if [ -e /proc/driver/nvidia/version ]; then set=full; else set=cpu; fi
fi
say "installing torch $version ($set set) into $here/"
rm -rf "$here/venv"
python3 -m venv "$here/venv"
case $set in
    # The Python package cannot be imported from this set; its libraries run on the CPU.
    cpu) "$here/venv/bin/pip" install --quiet --no-deps "torch==$version" "${cpu_needs[@]}" "$cuda_headers" ;;
    full) "$here/venv/bin/pip" install --quiet "torch==$version" && "$here/venv/bin/pip" install --quiet --no-deps "$cuda_headers" ;;
    *) die "LIBTORCH_SET=$set: cpu or full is wanted" ;;
esac
torch=$(echo "$here"/venv/lib/python3*/site-packages/torch)
is_libtorch "$torch" || die "the installed torch has no libtorch where it was expected: $torch"
# Relative, so that the folder can be moved together with the project.
point_at "${torch#"$here"/}"
