#!/bin/sh
# Make .venv with the project (editable) and its development tools, at the pinned versions. Usage: make-venv.sh VENV_DIR
set -eu
cd "$(dirname "$0")/.."
venv=$1

# Two calls at once would remove each other's environment. A directory, because macOS has no flock.
lock=$venv.lock
mkdir "$lock" 2>/dev/null || {
    echo "Another make is installing into $venv: wait until it has ended. If there is none, remove $lock and try again." >&2
    exit 1
}
trap 'rmdir "$lock"' EXIT
trap 'exit 130' HUP INT TERM

python=$(sh scripts/find-python.sh)
# An interrupted or older attempt is not repaired.
rm -rf "$venv"
echo "Making $venv with $python"
"$python" -m venv "$venv"
"$venv/bin/python" scripts/install.py
