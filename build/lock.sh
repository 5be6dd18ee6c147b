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
clouds=(aws gcp azure openstack cloudflare)
chosen=("${clouds[@]}" acme release)
lock develop --extra build --extra libvirt "${chosen[@]/#/--extra=}" --extra develop --constraint requirements/base.txt
for extra in "${chosen[@]}"; do
    # Each may be installed beside every other one.
    lock "$extra" --extra build --extra "$extra" --constraint requirements/develop.txt
done

# What the simulated OpenStack of the tests stands on. Its Paste still wants pkg_resources, which newer setuptools lack.
printf '%s\n' 'keystone>=30,<31' 'neutron>=29,<30' 'waitress>=3,<4' 'setuptools<81' |
    "$uv" pip compile - --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header \
        --universal --python-version 3.11 --output-file requirements/openstack-services.txt
echo requirements/openstack-services.txt

# Tests read its lists of sizes and regions and run none of it: what it would need to run is not installed.
echo boaviztapi |
    "$uv" pip compile - --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --no-deps \
        --universal --python-version 3.11 --output-file requirements/cloud-lists.txt
echo requirements/cloud-lists.txt

# The policy pack has an environment of its own: its library wants an older protobuf.
"$uv" pip compile policy-pack/requirements.in --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate \
    --no-header --universal --python-version 3.11 --output-file policy-pack/requirements.txt
echo "policy-pack/requirements.txt"
