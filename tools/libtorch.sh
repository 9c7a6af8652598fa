#!/usr/bin/env bash
# Finds libtorch 2.11.0, or installs it into .libtorch/, and points .libtorch/current at it.
#
# It is taken from $LIBTORCH, else from an installed Python torch 2.11.0, else installed from the Python registry: the
# full set with an NVIDIA driver, the small CPU set without. LIBTORCH_SET=cpu|full overrides that.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=2.11.0
# Libraries that the wheel's libtorch_cpu.so links, enough to run without a GPU, and the package of CUDA's headers.
readonly cpu_needs=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
readonly cuda_headers=nvidia-cuda-crt==13.0.88
readonly here=.libtorch

say() { printf 'libtorch: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

is_libtorch() { [ -f "$1/lib/libtorch_cpu.so" ] && [ -f "$1/include/torch/csrc/api/include/torch/torch.h" ]; }

# Prints the version of a libtorch folder, from `build-version` of a zip or `version.py` of a wheel.
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

# Prints the folder of an installed Python torch of the right version, without importing torch.
installed_torch() {
    command -v python3 >/dev/null || return 1
    python3 - "$version" <<'PY' 2>/dev/null
import importlib.metadata, importlib.util, os, sys
assert importlib.metadata.version("torch").split("+")[0] == sys.argv[1]
print(os.path.dirname(importlib.util.find_spec("torch").origin))
PY
}

# An exported LIBTORCH; the one that .cargo/config.toml sets for cargo is the link made here.
if [ -n "${LIBTORCH:-}" ] && [ "$LIBTORCH" != "$PWD/$here/current" ]; then
    is_libtorch "$LIBTORCH" || die "LIBTORCH=$LIBTORCH is not a libtorch: lib/libtorch_cpu.so or its headers are missing"
    found=$(version_of "$LIBTORCH")
    [ "$found" = "$version" ] || die "LIBTORCH=$LIBTORCH is version ${found:-unknown}, expected $version"
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
    # This set cannot be imported from Python; its libraries run on the CPU.
    cpu) "$here/venv/bin/pip" install --quiet --no-deps "torch==$version" "${cpu_needs[@]}" "$cuda_headers" ;;
    full) "$here/venv/bin/pip" install --quiet "torch==$version" && "$here/venv/bin/pip" install --quiet --no-deps "$cuda_headers" ;;
    *) die "unknown LIBTORCH_SET \"$set\", expected \"cpu\" or \"full\"" ;;
esac
torch=$(echo "$here"/venv/lib/python3*/site-packages/torch)
is_libtorch "$torch" || die "the installed torch has no libtorch in $torch"
# A relative link, so that the project can be moved.
point_at "${torch#"$here"/}"
