"""Everything that is wrong with a stack file and can be known on this machine, without asking anybody, in one go."""

from datetime import date

from vre import access, clouds
from vre.config import Config
from vre.errors import Finding, VreError
from vre.load import apart, judged, placed
from vre.stackfile import StackFile


def review(file: StackFile, *, prepared: bool = True) -> tuple[Config | None, list[Finding]]:
    """Return what a stack file asks for and every fault: its keys, what the cloud would refuse, the operators' keys.

    Before set-up (`prepared` is false) what that makes or installs need not be there. The configuration is as in
    `load.judged`. What the cloud would refuse is told of parts of the file in which nothing else is wrong.
    """
    config, found = judged(file)
    if config is None:
        return None, found
    later = apart([*access.check(config, prepared=prepared), *ended(config, date.today())], found)
    later += apart(_refused(config, prepared=prepared), found, parts=True)
    return config, [*found, *(placed(each, file) for each in later)]


def ended(config: Config, today: date) -> list[Finding]:
    """Return the approvals that are not valid any more. Pure."""
    approval = config.data.approval
    if not approval or today <= approval.until:
        return []
    reason = f"the ethics approval {approval.reference} ended on {approval.until}: the data may not be worked on"
    return [Finding(key="vre:data.approval.until", reason=reason, example="the last day of its extension")]


def _refused(config: Config, *, prepared: bool) -> list[Finding]:
    try:
        return clouds.faults(config)
    except VreError as error:  # the cloud's packages are not installed
        missing = Finding(key="vre:cloud.provider", reason=error.message, example=error.hint)
        return [missing] if prepared else []
