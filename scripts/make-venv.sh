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
"$venv/bin/python" scripts/install.py
