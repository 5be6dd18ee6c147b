"""A real keystone and neutron on loopback: what the simulated OpenStack stands on.

They live in an environment of their own in the cache, with databases that are prepared once; each run has a copy.
"""

import configparser
import hashlib
import secrets
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack
from filelock import FileLock
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from vre import paths
from vre.run import begin, run

LOCK = "requirements/openstack-services.txt"
SERVE = Path(__file__).with_name("openstack_serve.py")
REGIONS = ("RegionOne", "RegionTwo")
OUTSIDE = "public"
OUTSIDE_RANGE = "203.0.113.0/24"
PLACE = "http://127.0.0.1:1"
"""Stands in the prepared databases for addresses that are known only at a start."""
QUIET = {"PYTHONWARNINGS": "ignore"}
PASSWORD = "of-the-tests-only"  # for loopback, and for nothing that stays


@dataclass(frozen=True, kw_only=True)
class Services:
    """Keystone and neutron that answer."""

    identity: str

    def admin(self) -> Any:
        """Return a connection as the cloud's operator."""
        return openstack.connect(**_login(self.identity, "admin", "admin", PASSWORD))

    def project(self, name: str, allowed: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Make a project, and a credential of an ordinary member that may only call what is `allowed`.

        Return the environment of who is logged in with it.
        """
        password, secret = (f"{word}-{secrets.token_hex(12)}" for word in ("password", "canary"))
        admin = self.admin().identity
        name = name[:64]  # keystone takes no longer one
        made = admin.create_project(name=name, domain_id="default")
        member = admin.create_user(name=name, password=password, domain_id="default")
        admin.assign_project_role_to_user(made, member, admin.find_role("member", ignore_missing=False))
        own = openstack.connect(**_login(self.identity, name, name, password)).identity
        credential = own.create_application_credential(member.id, "launch", secret=secret, access_rules=list(allowed))
        return {
            "OS_AUTH_URL": self.identity,
            "OS_AUTH_TYPE": "v3applicationcredential",
            "OS_APPLICATION_CREDENTIAL_ID": credential.id,
            "OS_APPLICATION_CREDENTIAL_SECRET": secret,
        }


def _login(url: str, user: str, project: str, password: str) -> dict[str, Any]:
    domains = {"user_domain_name": "Default", "project_domain_name": "Default"}
    login = {"auth_url": url, "username": user, "project_name": project, "password": password, **domains}
    return {**login, "region_name": REGIONS[0], "load_envvars": False, "load_yaml_config": False}


def connection(env: Mapping[str, str]) -> Any:
    """Return a connection with a project's credential."""
    return openstack.connect(
        auth_type=env["OS_AUTH_TYPE"],
        auth_url=env["OS_AUTH_URL"],
        application_credential_id=env["OS_APPLICATION_CREDENTIAL_ID"],
        application_credential_secret=env["OS_APPLICATION_CREDENTIAL_SECRET"],
        region_name=REGIONS[0],
        load_envvars=False,
        load_yaml_config=False,
    )


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    """Run both on free ports of loopback, with state in `folder`, until the block ends."""
    shutil.copytree(_prepared() / "state", folder, dirs_exist_ok=True, symlinks=True)
    with _running(folder) as started:
        yield started


def _prepared() -> Path:
    """Return the environment and databases from the cache, made there once for what the lock and this code say."""
    lock = paths.project() / LOCK
    content = b"".join(each.read_bytes() for each in (lock, SERVE, Path(__file__)))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = paths.cache() / "openstack" / f"{hashlib.sha256(content).hexdigest()[:16]}-{python}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            environment = _environment(lock, python)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".prepared-") as place:
                _prepare(Path(place, "made"), environment)
                Path(place, "made").rename(folder)
    return folder


def _environment(lock: Path, python: str) -> Path:
    """Return the services' own environment, installed once for what the lock says."""
    folder = paths.cache() / "openstack" / f"{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}-{python}-packages"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = Path(sys.prefix, "bin", "uv")
        run([uv, "venv", "--quiet", "--python", sys.executable, folder])
        run([uv, "pip", "install", "--quiet", "--require-hashes", "--compile-bytecode", "--python",
             folder / "bin" / "python", "--requirement", lock])  # fmt: skip
        (folder / "whole").touch()
    return folder


def _prepare(folder: Path, environment: Path) -> None:
    """Make databases and keys, and what a cloud's operator makes: projects, the network outside, default rules."""
    state = folder / "state"
    state.mkdir(parents=True)
    (state / "environment").symlink_to(environment)
    _configure(state, PLACE, PLACE)
    manage: list[str | Path] = [environment / "bin" / "keystone-manage", "--config-file", state / "keystone.conf"]
    user = Path(state).owner()
    run([*manage, "db_sync"], env=QUIET)
    run([*manage, "fernet_setup", "--keystone-user", user, "--keystone-group", Path(state).group()], env=QUIET)
    run([*manage, "bootstrap", "--bootstrap-region-id", REGIONS[0], "--bootstrap-public-url", f"{PLACE}/v3"],
        env={**QUIET, "OS_BOOTSTRAP_PASSWORD": PASSWORD})  # fmt: skip
    run([environment / "bin" / "python", SERVE, "tables", f"sqlite:///{state}/neutron.db"], env=QUIET)
    with _running(state) as started:
        _furnish_identity(started)
    with _running(state) as started:
        _furnish_network(started)
    _point(state, PLACE, PLACE)


def _furnish_identity(started: Services) -> None:
    identity = started.admin().identity
    project = identity.create_project(name="service", domain_id="default")
    user = identity.create_user(name="neutron", password=PASSWORD, domain_id="default")
    identity.assign_project_role_to_user(project, user, identity.find_role("admin"))
    keystone = next(iter(identity.services(type="identity")))
    neutron = identity.create_service(name="neutron", type="network")
    for region in REGIONS:
        if region != REGIONS[0]:
            identity.create_region(id=region)
            identity.create_endpoint(service_id=keystone.id, interface="public", url=started.identity, region_id=region)
        identity.create_endpoint(service_id=neutron.id, interface="public", url=PLACE, region_id=region)


def _furnish_network(started: Services) -> None:
    """Make the network outside, and what Neutron's migrations would: that new groups let everything out."""
    network = started.admin().network
    outside = network.create_network(
        name=OUTSIDE, is_router_external=True, provider_network_type="flat", provider_physical_network=OUTSIDE
    )
    network.create_subnet(network_id=outside.id, cidr=OUTSIDE_RANGE, ip_version=4, is_dhcp_enabled=False)
    for family in ("IPv4", "IPv6"):
        network.create_default_security_group_rule(
            direction="egress", ether_type=family, used_in_default_sg=True, used_in_non_default_sg=True
        )


@contextmanager
def _running(state: Path) -> Iterator[Services]:
    identity, network = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    _configure(state, identity, network)
    _point(state, identity, network)
    with ExitStack() as stack:
        stack.enter_context(_served(state, "keystone", identity, threads=4))
        # SQLite is locked by whoever writes: one at a time.
        stack.enter_context(_served(state, "neutron", network, "--config-file", f"{state}/neutron.conf", threads=1))
        _answers(identity)
        _answers(network)
        yield Services(identity=f"{identity}/v3")


@contextmanager
def _served(state: Path, name: str, url: str, *arguments: str, threads: int) -> Iterator[None]:
    python = (state / "environment").resolve() / "bin" / "python"
    process = begin(
        # Whatever ends the tests ends it, too.
        ["setpriv", "--pdeathsig", "TERM", python, SERVE, f"{name}.wsgi.api", url.rpartition(":")[2], str(threads),
         *arguments],
        output=state / f"{name}.log",
        env={**QUIET, f"OS_{name.upper()}_CONFIG_FILES": f"{state}/{name}.conf"},
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@retry(stop=stop_after_delay(180), wait=wait_fixed(0.2), retry=retry_if_exception_type(OSError), reraise=True)
def _answers(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def _free_port() -> int:
    """Return a port that is free, and below those that the kernel hands out: none takes it until it is served."""
    while True:
        port = 20000 + secrets.randbelow(10000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _point(state: Path, identity: str, network: str) -> None:
    """Have the catalogue lead to where the services are now."""
    database = sqlite3.connect(state / "keystone.db")
    with database:
        for kind, url in (("identity", f"{identity}/v3"), ("network", network)):
            wanted = "update endpoint set url = ? where service_id in (select id from service where type = ?)"
            database.execute(wanted, (url, kind))
    database.close()


def _configure(state: Path, identity: str, network: str) -> None:
    keys = {"key_repository": str(state / "keys")}
    _write(state / "keystone.conf", {
        "database": {"connection": f"sqlite:///{state}/keystone.db"},
        "fernet_tokens": keys,
        "fernet_receipts": keys,
    })  # fmt: skip
    _write(state / "neutron.conf", {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "router",
            "transport_url": "fake://",
            "auth_strategy": "keystone",
            "state_path": str(state / "neutron"),
            "api_paste_config": str(state / "environment" / "etc" / "neutron" / "api-paste.ini"),
            "notify_nova_on_port_status_changes": "false",
            "notify_nova_on_port_data_changes": "false",
        },
        "database": {"connection": f"sqlite:///{state}/neutron.db?timeout=30"},
        "keystone_authtoken": {
            "www_authenticate_uri": identity,
            "auth_url": identity,
            "auth_type": "password",
            "interface": "public",
            # So that it looks at what a credential may call.
            "service_type": "network",
            "project_domain_name": "Default",
            "user_domain_name": "Default",
            "project_name": "service",
            "username": "neutron",
            "password": PASSWORD,
        },
        "oslo_concurrency": {"lock_path": str(state / "neutron")},
        "ml2": {
            "type_drivers": "flat,vxlan",
            "tenant_network_types": "vxlan",
            "mechanism_drivers": "logger",
            "extension_drivers": "port_security",
        },
        "ml2_type_vxlan": {"vni_ranges": "1:1000"},
        "ml2_type_flat": {"flat_networks": OUTSIDE},
        "quotas": {"quota_security_group": "100", "quota_security_group_rule": "2000"},
    })  # fmt: skip


def _write(file: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    parser = configparser.RawConfigParser(default_section="none")
    parser.read_dict(sections)
    with file.open("w") as text:
        parser.write(text)
