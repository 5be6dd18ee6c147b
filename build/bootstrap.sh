#!/usr/bin/env bash
# What has to be on the machine before Python code of ours can run: Python with venv, a C compiler, git, Go.
# Says what is missing and installs it with apt; does nothing where all is there.
set -euo pipefail

say() { printf '… %s\n' "$*" >&2; }
stop() { printf 'error: %s\n  %s\n' "$1" "$2" >&2; exit 1; }

python_fits() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
venv_there() { python3 -c 'import ensurepip, venv' 2>/dev/null; }
headers_there() {
    python3 -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' 2>/dev/null
}
# Go fetches the toolchain that a module asks for by itself since 1.21.
go_fits() {
    local go version
    go=$(command -v go || ls /usr/local/go/bin/go /usr/lib/go-*/bin/go 2>/dev/null | tail -n 1)
    [ -n "$go" ] || return 1
    version=$("$go" version | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 21 ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else stop "installing packages needs root" "run this as root, or install sudo"; fi
}

wanted() {
    command -v python3 >/dev/null || echo python3
    venv_there || echo python3-venv
    headers_there || echo python3-dev
    command -v gcc >/dev/null || echo gcc
    command -v pkg-config >/dev/null || echo pkg-config
    command -v git >/dev/null || echo git
    command -v ip >/dev/null || echo iproute2
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@" >/dev/null
}

# Debian 12's own Go is too old; its backports have one that fits. The mirror is the one this machine uses already.
backports() {
    local release mirror
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if ! apt-cache policy | grep -q "n=$release-backports"; then
        mirror=$(apt-get indextargets --format '$(SITE) $(REPO_URI) $(RELEASE)' 'Identifier: Packages' | awk -v r="$release" '$3 == r {print $2; exit}')
        [ -n "$mirror" ] || stop "no Debian mirror is configured" "install Go 1.21 or newer and run this again"
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
            "$mirror" "$release" | as_root tee /etc/apt/sources.list.d/vre-backports.sources >/dev/null
        as_root apt-get update --quiet >/dev/null
    fi
    echo "$release-backports"
}

install_go() {
    say "installing Go"
    if apt-cache show golang-go 2>/dev/null | grep -qE '^Version: 2:1\.(2[1-9]|[3-9][0-9])' && apt_install golang-go && go_fits; then return; fi
    apt_install --target-release "$(backports)" golang-go
    go_fits || stop "the distribution has no Go 1.21 or newer" "install Go and put it on PATH"
}

main() {
    local missing
    mapfile -t missing < <(wanted)
    if [ ${#missing[@]} -eq 0 ] && go_fits; then
        python_fits || stop "Python 3.11 or newer is needed; here is $(python3 --version)" "use Debian 12, 13 or Ubuntu 24.04"
        return
    fi
    command -v apt-get >/dev/null || stop "this machine has no apt" "install by hand: ${missing[*]} and Go 1.21 or newer"
    say "reading the package lists"
    as_root apt-get update --quiet >/dev/null
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        apt_install "${missing[@]}"
    fi
    python_fits || stop "Python 3.11 or newer is needed; here is $(python3 --version)" "use Debian 12, 13 or Ubuntu 24.04"
    go_fits || install_go
}

main
