"""`vre:machine:Software`: everything that a machine of ours has beyond Debian's packages, sent and set up over SSH."""

from pathlib import Path
from typing import ClassVar

from vre.errors import Finding
from vre.machine.software import HOME
from vre.machine.ssh import Connection, Shell, Unreachable, wait
from vre.provider.handler import Context, Found, Handler, Props

SENT = "/var/tmp/vre-software.tar.zst"  # noqa: S108 - on the machine, and only its operator can write there as itself
HOME_PATH = f"/{HOME}"
DONE = f"cat {HOME_PATH}/done 2>/dev/null || true"
UNPACK = f"rm -rf {HOME_PATH} && tar --extract --zstd --file {SENT} --directory / --no-overwrite-dir && rm -f {SENT}"
ADOPT = f"{HOME_PATH}/adopt.py"
MIB = 1024 * 1024


class Software(Handler):
    """Sent once to each machine: another archive is for machines made from then on, as another image would be."""

    token = "vre:machine:Software"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection", "archive", "identity"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse an archive that is not there."""
        archive = inputs.get("archive")
        if isinstance(archive, str) and not Path(archive).is_file():
            return [Finding(key="archive", reason=f"there is no file {archive}", example="vre setup software")]
        return []

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Send the archive, unpack it, run its script. Done already: nothing is sent."""
        identity = str(inputs["identity"])
        with wait(Connection.read(inputs["connection"]), context, timeout=300) as shell:
            if shell.run(["sh", "-c", DONE], sudo=True).strip() != identity:
                self._send(context, shell, Path(inputs["archive"]))
                context.report("unpacking the software")
                shell.run(["sh", "-c", UNPACK], sudo=True, timeout=1800, context=context)
                shell.run(
                    ["python3", ADOPT, identity], sudo=True, timeout=1800, context=context, line=context.report,
                    hint="vre ssh, and try it there",
                )  # fmt: skip
        return str(inputs["machine"]), dict(inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look whether the machine has it; a machine that does not answer keeps what it had."""
        try:
            with Shell(Connection.read(state["connection"])) as shell:
                done = shell.run(["sh", "-c", DONE], sudo=True).strip()
        except Unreachable as error:
            context.report(f"{error.message}; kept as last seen")
            done = str(state["identity"])
        return Found(inputs=dict(state), outputs=dict(state)) if done else None

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Change nothing: what a standing machine has is patched by itself."""
        return {**inputs, "identity": state["identity"]}

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """It ends with its machine."""

    def _send(self, context: Context, shell: Shell, archive: Path) -> None:
        whole = archive.stat().st_size // MIB

        def progress(sent: int, _: int) -> None:
            context.pause(0)
            context.report(f"sending the software: {sent // MIB} of {whole} MiB")

        shell.send(archive, SENT, progress)
