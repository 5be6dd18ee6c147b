#!/usr/bin/env bash
# Pin every Python package by version and hash. Argument: the path of uv.
set -euo pipefail

lock() {
    local file=$1
    shift
    "$uv" pip compile pyproject.toml --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header \
        --universal --python-version 3.11 --output-file "requirements/$file.txt" "$@"
    echo "requirements/$file.txt"
}

uv=$1
lock base --extra build
lock local --extra build --extra libvirt --constraint requirements/base.txt
lock develop --extra build --extra libvirt --extra develop --constraint requirements/base.txt
