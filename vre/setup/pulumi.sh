#!/bin/sh
# Starts this project's Pulumi engine, so that nothing has to be exported or installed first. Whatever is set already
# in the environment stays as it is. Written by `make setup`; `vre/setup/pulumi.sh` is where to change it.
set -eu

self=$0
while [ -L "$self" ]; do
    target=$(readlink -- "$self")
    case $target in
        /*) self=$target ;;
        *) self=$(dirname -- "$self")/$target ;;
    esac
done
environment=$(CDPATH='' cd -- "$(dirname -- "$self")/.." && pwd)
project=$(dirname -- "$environment")
engine=$environment/lib/vre/engine
state=${VRE_STATE:-$project/.vre}

if [ ! -x "$engine/pulumi" ]; then
    echo "error: the Pulumi engine is not there" >&2
    echo "  run: make setup" >&2
    exit 1
fi

PATH=$environment/bin:$engine:$PATH
PULUMI_SKIP_UPDATE_CHECK=${PULUMI_SKIP_UPDATE_CHECK-true}
export PATH PULUMI_SKIP_UPDATE_CHECK

# An engine that was built here was built because nothing could be downloaded: it need not try for plugins either.
if [ -e "$engine/built-here" ]; then
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=${PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION-true}
    export PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION
fi

if [ -z "${PULUMI_CONFIG_PASSPHRASE+set}" ] && [ -z "${PULUMI_CONFIG_PASSPHRASE_FILE+set}" ]; then
    export PULUMI_CONFIG_PASSPHRASE_FILE="$state/passphrase"
fi

if [ -z "${PULUMI_BACKEND_URL+set}" ]; then
    [ -d "$state/state" ] || (umask 077 && mkdir -p -- "$state/state")
    if [ -n "$(find "$state/state" -maxdepth 0 -perm /077)" ]; then
        echo "error: others can enter $state/state, which holds this project's state" >&2
        echo "  run: chmod 700 $state/state" >&2
        exit 1
    fi
    export PULUMI_BACKEND_URL="file://$state/state"
fi

exec "$engine/pulumi" "$@"
