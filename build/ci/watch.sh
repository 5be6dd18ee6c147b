#!/usr/bin/env bash
# The daily look: whether Cloudflare's networks are still those that this checkout has, and those that the stack VRE_STACK
# lets in, whether that stack is still as closed as it should be, how far what is pinned is behind, and what is known to be
# vulnerable in the image that is current in VRE_IMAGE_TARGET, by the records of OSV in VRE_OSV. Each is looked at, whatever
# the others say; each answer is kept in VRE_REPORTS. Ends non-zero, for a person to look, when one is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/../.."
vre=$PWD/.venv/bin/vre
reports=${VRE_REPORTS:-$PWD/reports}
mkdir -p "$reports"
code=0

look() {
    echo "a person has to look: $1" >&2
    code=1
}

vulnerabilities() {
    "$vre" image list --channel "$VRE_IMAGE_TARGET" --json > "$reports/channel.json" || return 1
    current=$("$PWD/.venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["current"]["id"])' < "$reports/channel.json") || return 1
    "$vre" image vulnerabilities "$current" --output "$VRE_IMAGE_TARGET/releases" --database "$VRE_OSV" --json > "$reports/vulnerabilities.json"
}

"$vre" edge --update || look "vre edge --update"
git diff --exit-code --ignore-matching-lines='"on":' -- vre/edge/ranges.json || look "vre/edge/ranges.json"
"$vre" edge --json > "$reports/edge.json" || look "$reports/edge.json"
"$vre" audit --json > "$reports/audit.json" || look "$reports/audit.json"
"$vre" image pins --json > "$reports/pins.json" || look "$reports/pins.json"
if [ -n "${VRE_OSV:-}" ] && [ -n "${VRE_IMAGE_TARGET:-}" ]; then
    vulnerabilities || look "$reports/vulnerabilities.json"
else
    echo "known vulnerabilities: not looked for, VRE_OSV and VRE_IMAGE_TARGET name no records and no releases" >&2
fi
exit "$code"
