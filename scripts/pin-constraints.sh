#!/bin/sh
# Resolve the project's dependencies without constraints, in a throw-away environment, and write them to constraints.txt.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo 'Resolving and installing everything without pins; this takes some minutes.'
"$(sh scripts/find-python.sh)" -m venv "$scratch/venv"
pip="$scratch/venv/bin/python -m pip --disable-pip-version-check"
$pip install --quiet --upgrade 'pip>=25.1'
$pip install --group dev --editable .
{
    echo '# Tested versions of everything that is installed: the project, its dependencies and theirs, and the development tools.'
    echo '# Written by `make constraints`; names no index, so that it works with any. Upgrade by running that, then the tests.'
    $pip freeze --exclude-editable --exclude pip | grep -E '^[A-Za-z0-9._-]+=='
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" constraints.txt
