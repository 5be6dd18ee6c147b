"""What all tests share: the marks, and that drills run only when asked for."""

import pytest
from hypothesis import settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drills", action="store_true", help="run the longest drills, too")


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes says more about the machine than about the code.
    settings.register_profile("vre", deadline=None)
    settings.load_profile("vre")
    config.addinivalue_line("markers", "drill: one of the longest drills, run by `make test-all`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--drills"):
        return
    drills = [item for item in items if item.get_closest_marker("drill")]
    if drills:
        config.hook.pytest_deselected(items=drills)
        items[:] = [item for item in items if item not in drills]
