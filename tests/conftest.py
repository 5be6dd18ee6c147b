"""What all tests share: the marks, that drills run only when asked for, and what may run beside what."""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

MACHINES = "tests/machine/"
OWN = (
    "VRE_STATE", "VRE_STACK", "VRE_REPORTS", "VRE_OSV", "VRE_IMAGE_KEY", "VRE_IMAGE_TARGET", "VRE_PACKAGES_TARGET",
    "VRE_DNS_KEY", "VRE_DEBUG",
)  # fmt: skip
"""What a person sets for stacks and jobs of their own: no test uses it. Where builds are kept and come from stays."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drills", action="store_true", help="run the longest drills, too")


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes says more about the machine than about the code.
    settings.register_profile("vre", deadline=None)
    settings.load_profile("vre")
    for name in OWN:
        os.environ.pop(name, None)
    config.addinivalue_line("markers", "drill: one of the longest drills, run by `make test-all`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--drills"):
        return
    drills = [item for item in items if item.get_closest_marker("drill")]
    if drills:
        config.hook.pytest_deselected(items=drills)
        items[:] = [item for item in items if item not in drills]


class Together(LoadScopeScheduling):  # type: ignore[misc] # has no types
    """What stays in one process: a file with what it has set up, and the machines, which are launched once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return MACHINES if file.startswith(MACHINES) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)
