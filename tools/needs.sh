#!/usr/bin/env bash
# Names the requirements of a build that are missing, and how to install them. Prints nothing if none is.
set -u
missing=0
say() { printf 'missing: %s\n' "$*" >&2; missing=1; }

if ! command -v cargo >/dev/null; then
    say "Rust 1.95 or later (cargo): install it with rustup, https://rustup.rs"
elif ! rust=$(rustc --version); then
    say "the toolchain of rust-toolchain.toml, which rustup could not install (its message is above)"
elif ! awk '{ split($2, v, "."); exit !(v[1] > 1 || v[2] >= 95) }' <<<"$rust"; then
    say "Rust 1.95 or later, found $rust: install it with rustup, https://rustup.rs"
fi
command -v c++ >/dev/null ||
    say "a C++ compiler (c++): apt-get install g++, or dnf install gcc-c++"
if command -v c++ >/dev/null && ! printf '#include <stdio.h>\n#include <jpeglib.h>\n#include <jerror.h>\n' |
    c++ -fsyntax-only -x c++ - 2>/dev/null; then
    say "libjpeg-turbo's headers (jpeglib.h): apt-get install libjpeg-dev, or dnf install libjpeg-turbo-devel"
fi
if [ -z "${LIBTORCH:-}" ]; then
    if ! command -v python3 >/dev/null; then
        say "Python 3.10 or later with venv: apt-get install python3 python3-venv (or set LIBTORCH to a libtorch 2.11.0)"
    elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        say "Python 3.10 or later, found $(python3 --version 2>&1) (or set LIBTORCH to a libtorch 2.11.0)"
    elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        say "Python's venv: apt-get install python3-venv (or set LIBTORCH to a libtorch 2.11.0)"
    fi
fi
exit "$missing"
