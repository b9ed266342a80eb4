#!/bin/sh
# Print the path of a Python >= 3.12 that can make virtual environments. If there is no such Python, print what to install; exit 1.
#
# Each candidate is run: a pyenv shim exists also for versions that are not selected, and Debian's python3 lacks ensurepip unless
# python3-venv is installed.
set -u

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

installed() {
    command -v uv >/dev/null 2>&1 && uv python find --system --no-python-downloads '>=3.12' 2>/dev/null
    for name in python3.13 python3.12 python3.14 python3; do
        command -v "$name" 2>/dev/null
    done
    for version in 3.13 3.12 3.14; do
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python 2>/dev/null
    done
}

downloaded() {
    command -v uv >/dev/null 2>&1 && uv python install 3.13 >&2 && uv python find --system 3.13 2>/dev/null
}

# Print the first candidate of standard input that is usable.
choose() {
    while IFS= read -r python; do
        if usable "$python"; then
            # Not the shim, which chooses by the current directory, and not an active .venv, which is about to be replaced.
            "$python" -c 'import sys; print("%s/bin/python%d.%d" % (sys.base_prefix, *sys.version_info[:2]))'
            return 0
        fi
    done
    return 1
}

installed | choose || downloaded | choose || {
    echo "No Python >= 3.12 with venv was found. Install one (Debian: python3-venv; or uv, pyenv) and try again." >&2
    exit 1
}
