#!/usr/bin/env bash
# The daily job of the base image: build, test with a whole launch, publish, promote. What fails ends it, and nothing
# becomes current. VRE_IMAGE_TARGET names the folder that is served, VRE_IMAGE_KEY the file with the key that signs.
# VRE_PACKAGES_TARGET names the signed repository, where there is one: the image is then made from one moment of Debian's
# archive (VRE_DEBIAN_ARCHIVE, with {archive} and {moment}), and machines are told of it when all of the rest went well.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -n "${VRE_PACKAGES_TARGET:-}" ]; then
    # Not the newest: an archive of old states needs some hours to have it, and until then answers with an older one.
    moment=$(date --utc --date='12 hours ago' +%Y%m%dT%H0000Z)
    pattern=${VRE_DEBIAN_ARCHIVE:?names where old states of Debian\'s archive are, with \{archive\} and \{moment\}}
    export VRE_DEBIAN_MIRROR=${pattern//'{moment}'/$moment}
fi
make setup
vre=$PWD/.venv/bin/vre
release=$("$vre" image build)
"$vre" image test "$release" --launch
"$vre" image publish "$release"
"$vre" image promote "$(basename "$release")"
if [ -n "${VRE_PACKAGES_TARGET:-}" ]; then
    "$vre" packages --to "$VRE_PACKAGES_TARGET" --tested "$release"
fi
