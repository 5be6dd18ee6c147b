"""What a machine is told at its first boot, rendered from the templates in `cloud-init/`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vre.paths import project
from vre.template import render_template

DATA = "/var/lib/vre/data"
"""Where the data disk is mounted."""
RESOLVED = "/etc/systemd/resolved.conf.d/vre.conf"
"""Name servers that are named, in place of those that the network names (resolved.conf(5))."""


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """A host key for the first contact only: user-data can be read on the machine for ever."""

    public: str
    private: str


@dataclass(frozen=True, kw_only=True)
class Boot:
    """Everything a machine needs to know at its first boot.

    `addresses` carry their prefix length (`192.168.77.10/24`), and are none where the cloud's DHCP gives them;
    `gateways` are bare addresses. `data_device` is the data disk's path, empty for none. `upgrade` patches every
    package before anything else, `tested` to the state of Debian's archive that was tested; a machine that started from
    Debian's own image cannot read yet which that is, and takes the newest. `packages` are those that a machine lacks
    which started so.
    """

    name: str
    mac: str
    addresses: Sequence[str]
    keys: Sequence[str]
    host_key: HostKey
    firewall: str
    gateways: Sequence[str] = ()
    resolvers: Sequence[str] = ()
    nodes: Mapping[str, Sequence[str]]
    """Addresses of every machine of the stack by name: they know each other without a name server."""
    time_servers: Sequence[str] = ()
    mirror: str = ""
    security_mirror: str = ""
    data_device: str = ""
    upgrade: bool = True
    tested: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    """More files by their paths, for anybody to read."""
    packages: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The files of a NoCloud seed; clouds with a metadata service are given `user_data` alone."""

    user_data: str
    network_config: str
    meta_data: str

    def files(self) -> dict[str, str]:
        """Return the files under the names that cloud-init looks for."""
        files = {"user-data": self.user_data, "network-config": self.network_config, "meta-data": self.meta_data}
        return {name: text for name, text in files.items() if text}


def render(boot: Boot) -> Seed:
    """Return the seed for one machine."""
    user_data = _template("user-data.yaml", **_values(boot))
    identity = hashlib.sha256(f"{boot.name} {boot.mac} {boot.host_key.public}".encode()).hexdigest()[:16]
    return Seed(
        user_data=user_data,
        network_config=_network(boot) if boot.addresses else "",
        meta_data=_template("meta-data.yaml", name=boot.name, instance=f"{boot.name}-{identity}"),
    )


def _network(boot: Boot) -> str:
    return _template(
        "network-config.yaml",
        mac=boot.mac.lower(),
        addresses=list(boot.addresses),
        resolvers=list(boot.resolvers),
        gateways=[{"to": "::/0" if ":" in via else "0.0.0.0/0", "via": via} for via in boot.gateways],
    )


def _values(boot: Boot) -> dict[str, Any]:
    return {
        "name": boot.name,
        "keys": list(boot.keys),
        "host_key": boot.host_key,
        "hosts": hosts(boot.nodes),
        "firewall": boot.firewall,
        "firewall_unit": _template("firewall.service"),
        "mirror": boot.mirror,
        "sources": sources(boot.mirror, boot.security_mirror),
        "files": dict(boot.files),
        "time_servers": list(boot.time_servers),
        "timesyncd": f"[Time]\nNTP={' '.join(boot.time_servers)}\n",
        "data_device": boot.data_device,
        "data_mount": data_mount(boot.data_device),
        "clock": _template("clock.sh"),
        "plain": bool(boot.packages),
        "first_boot": first_boot(boot),
    }


def first_boot(boot: Boot) -> str:
    """Return the script that a machine runs once, at its first boot."""
    packages = " ".join(boot.packages)
    return _template(
        "first-boot.sh",
        upgrade=boot.upgrade,
        tested=boot.tested and not packages,
        data_device=boot.data_device,
        packages=packages,
        resolved=RESOLVED in boot.files,
    )


def hosts(nodes: Mapping[str, Sequence[str]]) -> str:
    """Return /etc/hosts: this machine and its fellows."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{_bare(address)} {name}" for name, addresses in nodes.items() for address in addresses]
    return "\n".join(lines) + "\n"


def resolved(servers: Sequence[str]) -> dict[str, str]:
    """Return the file that names the name servers for everything, whatever DHCP says; none where none are named."""
    return {RESOLVED: f"[Resolve]\nDNS={' '.join(servers)}\nDomains=~.\n"} if servers else {}


def sources(mirror: str, security: str) -> str:
    """Return Debian's sources for one mirror, in its deb822 form."""
    common = "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    security = security or f"{mirror.rstrip('/')}-security"
    return (
        f"Types: deb\nURIs: {mirror}\nSuites: trixie trixie-updates\n{common}\n"
        f"Types: deb\nURIs: {security}\nSuites: trixie-security\n{common}"
    )


def data_mount(device: str) -> str:
    """Return the line of /etc/fstab for the data disk; systemd makes the file system when the disk is still empty."""
    wait = "x-systemd.device-timeout=300s"  # a cloud attaches the disk after the machine has started
    options = f"nosuid,nodev,noatime,x-systemd.makefs,x-systemd.growfs,{wait}"
    return f"{device} {DATA} ext4 {options} 0 2\n"


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _template(file: str, /, **values: Any) -> str:
    return render_template(project() / "cloud-init" / file, **values)
