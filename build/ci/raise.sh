#!/usr/bin/env bash
# The daily raise: in a copy of this checkout, what is pinned takes its newest patch, the unit tests run, and an image with
# all of that is built and tested with a whole launch. What passed is left as a change for a person to merge: raised.patch
# in VRE_REPORTS. The checkout stays as it was, and nothing is published: the keys that sign releases and packages have no
# part in it.
# Ends non-zero, for a person to look, when something could not be raised, or did not pass: then it is in failed.patch.
set -euo pipefail
cd "$(dirname "$0")/../.."
reports=${VRE_REPORTS:-$PWD/reports}
mkdir -p "$reports"
rm -f "$reports/raised.patch" "$reports/failed.patch"
work=$(mktemp --directory)
vre=$work/vre/.venv/bin/vre
# What was set up for this alone ends with it, the project's own hypervisor too, where it had to start one.
trap '[ ! -x "$vre" ] || "$vre" hypervisor stop >&2 || true; rm -rf "$work"' EXIT
unset VRE_STATE VRE_IMAGE_KEY VRE_IMAGE_TARGET VRE_PACKAGES_TARGET
git clone --quiet "$PWD" "$work/vre"
cd "$work/vre"
make setup
code=0
"$vre" image pins --raise >&2 || code=1
"$vre" generate >&2
if git diff --quiet; then
    echo "nothing was raised" >&2
    exit "$code"
fi
git diff > "$reports/failed.patch"
make setup unit >&2
release=$("$vre" image build --format qcow2)
"$vre" image test "$release" --launch
mv "$reports/failed.patch" "$reports/raised.patch"
echo "raised, built and tested: $reports/raised.patch" >&2
exit "$code"
