"""What went wrong, told to a person: what, where, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass


class VreError(Exception):
    """One fault that stops the work. The command line and the Pulumi program print it without a traceback."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing wrong with what a user gave. `where` is `file:line` or empty, `key` the dotted key in the file."""

    key: str
    reason: str
    where: str = ""
    example: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        example = f"\n    for example: {self.example}" if self.example else ""
        return f"{place}{self.key}: {self.reason}{example}"


class Refused(VreError):
    """Bad input: every finding at once, before any resource is touched."""

    def __init__(self, findings: Sequence[Finding], *, hint: str = "") -> None:
        self.findings = tuple(findings)
        count = len(self.findings)
        faults = "\n".join(f"  {finding}" for finding in self.findings)
        super().__init__(f"{count} fault{'s' if count != 1 else ''}, nothing was changed:\n{faults}", hint=hint)
