"""`vre:machine:Machine`: a machine whose first boot has ended well and that answers with its pinned host key."""

import json
import time
from typing import Any, ClassVar

from vre.errors import Finding, VreError
from vre.machine.ssh import Connection, File, HostKeyRefused, Shell, Unreachable, parse_key, wait
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Props

TIMEOUT = 1800.0  # seconds for a first boot with a full upgrade and a reboot, on an emulated processor
SETTLING = 300.0  # seconds in which an image without cloud-init may show a host key of its own, before it has ours
EVERY = 1.0
KEY = "/etc/ssh/ssh_host_ed25519_key"
LOOK = """cat /run/cloud-init/status.json 2>/dev/null; echo; echo '---'
[ -e /run/cloud-init/result.json ] && echo finished; [ -e /run/vre/rebooting ] && echo rebooting
[ -s /var/lib/vre/failed ] && echo failed; tail -n 1 /run/vre/output 2>/dev/null; true
"""
FACTS = """cat /proc/sys/kernel/random/boot_id
. /etc/os-release
echo "$PRETTY_NAME $(cat /etc/debian_version), $(uname -r)"
cat /var/lib/vre/upgraded 2>/dev/null || true
"""
# The keys that user-data carried go, and so does every other: one key, which nothing on the machine was told of before.
REPLACE = f"""set -eu
for key in /etc/ssh/ssh_host_*; do case "$key" in {KEY}|{KEY}.pub) ;; *) rm -f "$key" ;; esac; done
sshd -t
systemctl reload ssh
"""
SAID = """cat /var/lib/vre/failed 2>/dev/null
grep -E 'ERROR|WARNING|Traceback|failed' /var/log/cloud-init.log 2>/dev/null | tail -n 12
tail -n 12 /var/log/cloud-init-output.log 2>/dev/null; true
"""
STAGES = {
    "init-local": "finding its settings",
    "init": "network, users and firewall",
    "modules-config": "settings",
    "modules-final": "data disk and patches",
}


class Machine(Handler):
    """The first contact with a machine. The keys that user-data carried are accepted here and never again."""

    token = "vre:machine:Machine"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection", "bootKeys"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse host keys that are none."""
        found = []
        keys = inputs.get("bootKeys")
        host = inputs.get("hostKey")
        lines = [*(keys if isinstance(keys, list) else []), host.get("publicKey") if isinstance(host, dict) else None]
        for line in lines:
            try:
                if isinstance(line, str):
                    parse_key(line)
            except VreError as error:
                found.append(
                    Finding(key="bootKeys" if line in (keys or []) else "hostKey.publicKey", reason=error.message)
                )
        return found

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that only the machine can tell when it was set up."""
        return {**dict.fromkeys(("bootId", "release", "ready"), UNKNOWN), **state, **inputs}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Wait for the first boot to end, replace the host key, look again with the new one."""
        connection = Connection.read(inputs["connection"])
        pinned = str(inputs["hostKey"]["publicKey"])
        finish_boot(context, connection.accepting(*inputs["bootKeys"], pinned))
        return str(inputs["machine"]), self._pin(context, connection.accepting(*inputs["bootKeys"], pinned), inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look whether it answers with its pinned key. One that is switched off is kept: its domain tells."""
        connection = Connection.read(state["connection"]).accepting(str(state["hostKey"]["publicKey"]))
        try:
            with Shell(connection):
                context.report("answers with its pinned key")
        except HostKeyRefused:
            raise
        except Unreachable as error:
            context.report(f"{error.message}; kept as last seen")
        inputs = {key: state[key] for key in ("machine", "connection", "bootKeys", "hostKey") if key in state}
        return Found(inputs=inputs, outputs=dict(state))

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Put a new host key in place of the old one."""
        keys = [str(each["hostKey"]["publicKey"]) for each in (state, inputs)]
        return self._pin(context, Connection.read(inputs["connection"]).accepting(*keys), inputs)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """It ends with its domain."""

    def _pin(self, context: Context, connection: Connection, inputs: Props) -> Props:
        key = inputs["hostKey"]
        with wait(connection, context, timeout=TIMEOUT) as shell:
            context.report("replacing the host key")
            shell.put(
                File(path=f"{KEY}.pub", content=_line(key["publicKey"]), mode="0644"),
                File(path=KEY, content=_line(key["privateKey"]), mode="0600"),
            )
            shell.run(["sh", "-c", REPLACE], sudo=True, hint="vre ssh, then: sudo sshd -t")
        with wait(connection.accepting(str(key["publicKey"])), context, timeout=120) as shell:
            boot, release, *upgraded = shell.run(["sh", "-c", FACTS]).splitlines()
        return {**inputs, "bootId": boot, "release": release, "ready": upgraded[0] if upgraded else "not upgraded"}


def finish_boot(context: Context, connection: Connection, *, timeout: float = TIMEOUT) -> None:
    """Wait until cloud-init has ended well, through reboots. Raises VreError with what went wrong on the machine."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            left = max(deadline - time.monotonic(), 1)
            with wait(connection, context, timeout=left, settling=SETTLING) as shell:
                if _watch(context, shell, deadline):
                    return
        except Unreachable as error:
            # Rebooting, or still booting: connected too early.
            context.report(error.message)
            context.pause(EVERY)
    raise VreError(f"{connection} did not finish its first boot in {timeout:.0f} s", hint="vre logs shows its console")


def _watch(context: Context, shell: Shell, deadline: float) -> bool:
    """Follow the boot on one connection. True: it has ended well; False: the machine reboots."""
    while time.monotonic() < deadline:
        text, _, marks = shell.run(["sh", "-c", LOOK], sudo=True, context=context).partition("---\n")
        lines = marks.splitlines()
        status = _status(text)
        faults = errors(status)
        if "failed" in lines or ("finished" in lines and faults):
            raise _failure(shell, faults)
        if "rebooting" in lines:
            context.report("rebooting into what the upgrade installed")
            context.pause(EVERY)
        elif "finished" in lines:
            return True
        else:
            said = [each for each in lines if each not in ("finished", "failed")]
            context.report(f"first boot: {stage(status)}{f' ({said[-1][:60]})' if said else ''}")
            context.pause(EVERY)
    return False


def _status(text: str) -> dict[str, Any]:
    """Return cloud-init's own account of the boot; empty before it has begun."""
    try:
        made: dict[str, Any] = json.loads(text).get("v1", {})
    except ValueError:
        return {}
    return made


def stage(status: dict[str, Any]) -> str:
    """Return what cloud-init is doing, in words."""
    return STAGES.get(str(status.get("stage") or ""), "starting")


def errors(status: dict[str, Any]) -> list[str]:
    """Return the errors of every stage: `modules-final: ('scripts_user', ...)`."""
    return [
        f"{name}: {error}"
        for name, about in status.items()
        if isinstance(about, dict)
        for error in about.get("errors") or []
    ]


def _failure(shell: Shell, faults: list[str]) -> VreError:
    said = shell.run(["sh", "-c", SAID], sudo=True).strip().splitlines()
    lines = "".join(f"\n    {line}" for line in [*faults, *said][:30])
    return VreError(
        f"the first boot of {shell.connection} failed:{lines}",
        hint="vre logs shows more, vre ssh leads there; after the cause is gone: pulumi up --replace its Domain",
    )


def _line(text: Any) -> bytes:
    return f"{str(text).strip()}\n".encode()
