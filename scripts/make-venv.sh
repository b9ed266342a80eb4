#!/bin/sh
# Make .venv with the project (editable) and its development tools, at the pinned versions. Usage: make-venv.sh VENV_DIR
set -eu
cd "$(dirname "$0")/.."
venv=$1

python=$(sh scripts/find-python.sh)
# An interrupted or older attempt is not repaired.
rm -rf "$venv"
echo "Making $venv with $python"
"$python" -m venv "$venv"

# uv is some ten times faster, but does not read pip's configuration. If only that names a reachable index, pip installs.
if command -v uv >/dev/null 2>&1 &&
    VIRTUAL_ENV=$(cd "$venv" && pwd) uv pip install --quiet --constraint constraints.txt --group dev --editable .; then
    exit 0
fi
pip="$venv/bin/python -m pip --disable-pip-version-check"
$pip install --quiet --upgrade 'pip>=25.1' # --group is new in 25.1
$pip install --quiet --constraint constraints.txt --group dev --editable .
