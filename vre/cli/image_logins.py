"""Who gets into a booted image: whoever holds the one key, and nobody by a password or as root. Tried, not read."""

import socket
from collections.abc import Iterator

import paramiko

from vre.cli.checks import Check, bad, good
from vre.errors import VreError
from vre.image import boot
from vre.image.boot import Guest

AREA = "boot"
PASSWORD = "anything at all"  # noqa: S105 - what is to be refused whatever it is
KEYS_ONLY = ["publickey"]
HINT = "sshd -T on the guest: passwordauthentication, kbdinteractiveauthentication, authenticationmethods"


def look(guest: Guest) -> Iterator[Check]:
    """Yield what came of tries without the key, and of root's with it. Raises VreError when SSH does not answer."""
    yield passwords(_ways(guest))
    yield _root(guest)


def account(told: str) -> Check:
    """Judge whom the key lets in, by `id -un`. Pure."""
    if told.strip() == boot.USER:
        return good(AREA, "key login", f"the key opens {boot.USER}")
    return bad(AREA, "key login", f"the key opens {told.strip() or 'nobody'} instead of {boot.USER}")


def passwords(ways: list[str]) -> Check:
    """Judge by which ways SSH lets people try. Pure."""
    if ways == KEYS_ONLY:
        return good(AREA, "password login", "refused: keys only")
    return bad(AREA, "password login", f"SSH takes {', '.join(ways) or 'nothing'}", HINT)


def _root(guest: Guest) -> Check:
    with paramiko.SSHClient() as client:
        client.get_host_keys().update(_pinned(guest))
        try:
            client.connect(
                "127.0.0.1", guest.port, "root", key_filename=str(guest.key), look_for_keys=False, allow_agent=False,
                banner_timeout=60,
            )  # fmt: skip
        except paramiko.AuthenticationException:
            return good(AREA, "root login", "refused, with the key that opens the other account")
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise VreError(f"no answer to a login as root: {error}") from error
    return bad(AREA, "root login", "root may log in", "PermitRootLogin no")


def _pinned(guest: Guest) -> paramiko.HostKeys:
    known = paramiko.HostKeys()
    kind, _, text = guest.host.public.partition(" ")
    entry = paramiko.hostkeys.HostKeyEntry.from_line(f"[127.0.0.1]:{guest.port} {kind} {text}")
    if entry is None or entry.key is None:
        raise VreError("the guest's host key cannot be read")
    known.add(f"[127.0.0.1]:{guest.port}", kind, entry.key)
    return known


def _ways(guest: Guest) -> list[str]:
    """Return the ways that SSH names, and password where one is listened to although it is not named."""
    try:
        address = ("127.0.0.1", guest.port)
        with socket.create_connection(address, timeout=60) as line, paramiko.Transport(line) as transport:
            transport.start_client(timeout=60)
            return _tried(transport)
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise VreError(f"no SSH at the guest: {error}") from error


def _tried(transport: paramiko.Transport) -> list[str]:
    try:
        transport.auth_none(boot.USER)
    except paramiko.BadAuthenticationType as error:
        ways = list(error.allowed_types)
    else:
        return ["nothing at all: everybody is let in"]
    try:
        transport.auth_password(boot.USER, PASSWORD, fallback=False)
    except paramiko.BadAuthenticationType:
        return ways
    except paramiko.AuthenticationException:
        return [*ways, *({"password"} - set(ways))]
    return [*ways, "any password"]
