"""The daily upgrade of a machine: packages, services, and a reboot when what runs is no longer what is installed.

Run by vre-patch.service: every 24 hours, at the beginning of the maintenance window when a reboot waits, and after a
start that broke something off. It goes on where it was; what it does and found is in /var/lib/vre/patch.json. Python's
standard library only. Ends with 1 when something failed; the machine then stays as it was, and says so at login.
"""

import contextlib
import signal
import sys
from datetime import timedelta
from pathlib import Path

import host
import images
import member
import reboot
import turn
import upgrade
from alone import alone

RETRY = timedelta(hours=1)


class Patch:
    """One run."""

    def __init__(self, this: host.Host) -> None:
        self.host = this
        self.member = member.Member(this)
        self.packages = upgrade.Packages(this, self.member)
        self.images = images.Images(this, self.member)
        self.reboot = reboot.Reboot(this, self.member)

    def run(self) -> int:
        """Do what is due. Returns the exit code."""
        try:
            self.host.read()
            try:
                self.work()
            except host.Later as error:
                host.say(f"later: {error}")
                self.host.note(waits=str(error))
                self.host.again(host.clock() + RETRY)
            self.host.note(failure=None)
            self.host.places.motd.unlink(missing_ok=True)
        except Exception as error:  # a disk that takes nothing, settings cut short: told like what was foreseen
            return self.fail(error)
        return 0

    def work(self) -> None:
        """Be a node again, upgrade, look, reboot."""
        upgrades = self.host.settings.get("upgrade", True)
        # What keeps the node from being ready may be what the upgrade mends; if not, the run fails after it.
        with contextlib.suppress(turn.TooLong, turn.Unreachable):
            self.member.come_back()
        self.packages.remember()
        if upgrades:
            self.packages.upgrade()
        self.packages.look()
        self.member.come_back()
        fault = self.images.renew() if upgrades else None
        self.reboot.when_due()  # a kernel does not wait for a container image
        if fault:
            raise fault

    def fail(self, error: Exception) -> int:
        """Say what failed: in the state, at login, on the console, to the journal. Tried again in an hour."""
        fault = error if isinstance(error, host.Failed) else host.Failed(type(error).__name__, str(error))
        told = f"daily upgrade: exit code {fault.code}: {fault.command}\n{fault.said}"
        host.say(told)
        self.host.note(failure={"command": fault.command, "code": fault.code, "said": fault.said, "at": host.now()})
        places = self.host.places
        with contextlib.suppress(OSError):
            places.motd.parent.mkdir(parents=True, exist_ok=True)
            places.motd.write_text(f"\nWARNING: this machine could not be patched.\n{told}\n")
        with contextlib.suppress(OSError), places.console.open("a") as console:
            console.write(f"{told}\n".replace("\n", "\r\n"))
        with contextlib.suppress(host.Failed, OSError):
            self.host.again(host.clock() + RETRY)
        return 1


def main(root: Path = Path("/")) -> int:
    """Run once."""
    places = host.Places(root=root)
    with alone(places.scratch):
        this = host.Host(places)
        signal.signal(signal.SIGTERM, this.end)
        return Patch(this).run()


if __name__ == "__main__":
    sys.exit(main())
