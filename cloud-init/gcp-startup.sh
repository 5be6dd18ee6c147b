#!/bin/sh
# Debian's image on Google's cloud has Google's agent in place of cloud-init. The agent runs this at boot, once: it makes
# way. After a reboot cloud-init does here what it does on every other cloud. What the agent would take keys, accounts
# and scripts from, the metadata that can change at any time, nobody listens to any more.
set -eu

# It would answer with a host key that is not ours.
systemctl stop ssh.socket ssh.service || true

# In a unit of its own: the agent's own unit ends when its package goes.
exec systemd-run --quiet --unit=vre-start /bin/sh -c '
    export DEBIAN_FRONTEND=noninteractive
    rm -f /etc/apt/sources.list.d/google*
    until apt-get --quiet update && apt-get --quiet --yes install cloud-init; do sleep 10; done
    apt-get --quiet --yes purge $(dpkg-query --show --showformat "\${Package} " "google-*")
    systemctl reboot
'
