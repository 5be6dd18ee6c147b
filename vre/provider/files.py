"""`vre:machine:Files`: files of a machine, kept as they were declared."""

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from vre.errors import Finding
from vre.machine.ssh import Connection, File, Shell, Unreachable, wait
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Props

MODE, OWNER = "0644", "root"


class Files(Handler):
    """A set of files. Their contents never appear in an argument list.

    The commands of `after` run whenever something changed, and again when an earlier attempt was cut short.
    """

    token = "vre:machine:Files"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse paths that are not absolute, and modes that are not octal."""
        found = []
        files = inputs.get("files")
        for index, file in enumerate(files if isinstance(files, list) else []):
            if not isinstance(file, dict):
                continue
            path, mode = file.get("path"), file.get("mode") or MODE
            if isinstance(path, str) and (not path.startswith("/") or "/../" in path):
                found.append(Finding(key=f"files[{index}].path", reason=f"not an absolute path: {path}"))
            if isinstance(mode, str) and (not mode or set(mode) - set("01234567")):
                found.append(Finding(key=f"files[{index}].mode", reason=f"not an octal mode: {mode}", example="0600"))
        return found

    def normalise(self, inputs: Props) -> Props:
        """Fill in mode, owner, and no commands."""
        files = inputs.get("files")
        if isinstance(files, list):
            files = [_whole(file) for file in files]
        return {**inputs, "files": files, "after": inputs.get("after") or []}

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that the digests are those of contents to come."""
        return {**state, **inputs, "digests": UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Write the files and run the commands."""
        outputs = self._write(context, inputs)
        return (
            f"{inputs['machine']}:{hashlib.sha256(repr(sorted(outputs['digests'])).encode()).hexdigest()[:12]}",
            outputs,
        )

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Write what differs, remove what is no longer declared."""
        gone = {file["path"] for file in state.get("files", [])} - {file["path"] for file in inputs["files"]}
        return self._write(context, inputs, gone=sorted(gone))

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Compare digests, modes and owners; a file that differs is left out, so that `up` writes it again."""
        try:
            with Shell(Connection.read(state["connection"])) as shell:
                there = shell.digests([file["path"] for file in state["files"]])
        except Unreachable as error:
            context.report(f"{error.message}; kept as last seen")
            kept = state["files"]
        else:
            kept = [file for file in state["files"] if there.get(file["path"]) == _expected(file)]
        inputs = {key: value for key, value in state.items() if key != "digests"} | {"files": kept}
        return Found(inputs=inputs, outputs={**state, "files": kept})

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Leave the files to the machine's own end: what they belong to may still need them."""

    def _write(self, context: Context, inputs: Props, *, gone: Sequence[str] = ()) -> Props:
        with wait(Connection.read(inputs["connection"]), context, timeout=120) as shell:
            context.report(f"writing {len(inputs['files'])} files")
            shell.put(*(_file(file) for file in inputs["files"]))
            if gone:
                shell.remote({"do": "remove", "paths": list(gone)})
            for command in inputs["after"]:
                context.report(f"running {command[0]}")
                shell.run(command, sudo=True, timeout=600, context=context, hint="vre ssh, and try it there")
        return {**inputs, "digests": {file["path"]: _expected(file)[0] for file in inputs["files"]}}


def _whole(file: Any) -> Any:
    return (
        {**file, "mode": file.get("mode") or MODE, "owner": file.get("owner") or OWNER}
        if isinstance(file, dict)
        else file
    )


def _file(file: Props) -> File:
    return File(path=file["path"], content=str(file["content"]).encode(), mode=file["mode"], owner=file["owner"])


def _expected(file: Props) -> list[str]:
    digest = hashlib.sha256(str(file["content"]).encode()).hexdigest()
    return [digest, f"{int(file['mode'], 8):04o}", file["owner"]]
