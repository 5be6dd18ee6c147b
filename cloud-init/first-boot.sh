#!/bin/sh
# Once, at the first boot: mount the data disk, bring every package up to date, reboot when what runs is no longer what is
# installed. What fails is named in /var/lib/vre/failed, on the console, and told to everybody who logs in.
set -u
failed=/var/lib/vre/failed
console=/dev/console
mkdir -p /var/lib/vre /run/vre

try() {
    "$@" > /run/vre/output 2>&1 && return 0
    code=$?
    { echo "first boot: exit code $code: $*"; tail -n 20 /run/vre/output; } > "$failed"
    { printf '\nWARNING: this machine is not whole.\n'; cat "$failed"; } > /etc/motd
    cat "$failed" >&2
    cat "$failed" > "$console"
    exit 1
}

versions() { dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\n' 'linux-image-*' '*-microcode' libc6 systemd dbus 2> /dev/null; }

rm -f "$failed"
#% if upgrade
# When the power goes before the end, the daily upgrade begins with the next start, and ends it: cloud-init does not run
# this again.
touch /var/lib/vre/patch-resume
#% endif
sync
try systemctl daemon-reload
#% if resolved
# Its settings came after it had started.
try systemctl restart systemd-resolved.service
#% endif
#% if data_device
try systemctl start var-lib-vre-data.mount
try mountpoint --quiet /var/lib/vre/data
#% endif
#% if packages
# What the machine lacks comes before its firewall, which is part of it.
export DEBIAN_FRONTEND=noninteractive
try apt-get --quiet --error-on=any update
try apt-get --quiet --yes --no-install-recommends install {{ packages }}
try nft -f /etc/vre/firewall.nft
try systemctl enable vre-firewall.service
#% endif
#% if upgrade
before=$(versions)
export DEBIAN_FRONTEND=noninteractive
#% if tested
try python3 -B /usr/lib/vre/tested.py
#% endif
try apt-get --quiet --error-on=any update
try apt-get --quiet --yes --option Dpkg::Options::=--force-confold --option Dpkg::Options::=--force-confdef full-upgrade
date --utc +%FT%TZ > /var/lib/vre/upgraded
sync
rm -f /var/lib/vre/patch-resume
if [ "$before" != "$(versions)" ] || [ -e /run/reboot-required ]; then
    touch /run/vre/rebooting
    systemd-run --quiet --on-active=3 systemctl reboot
fi
#% endif
