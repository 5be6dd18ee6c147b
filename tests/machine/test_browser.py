"""A researcher's first minutes: log in through a real browser, start a server, run a cell, keep a notebook."""

import os
from pathlib import Path

import pytest

from tests.machine.browser import browser
from tests.machine.conftest import Launch
from tests.machine.lab import NAMESPACE
from vre.paths import project

SAVED = (
    "from pathlib import Path; Path('kept.txt').write_text('what was found'); print(len(Path('kept.txt').read_text()))"
)
LIMITS = "import os; print(os.getuid(), os.getgid(), os.access('/', os.W_OK), os.access('/etc', os.W_OK))"


@pytest.mark.requirement("P-04", "C-20", "C-24", "H-38")
def test_a_researcher_runs_a_cell(site: Launch, tmp_path: Path) -> None:
    url, user, password = site.outputs["services"]["jupyter"], site.outputs["user"], site.outputs["password"]
    with browser(tmp_path, authority=site.outputs["authority"], space=NAMESPACE) as chromium:
        chromium.login(url, user, password)
        assert chromium.run_cell("sum(n * n for n in range(10))") == "285"
        assert chromium.run_cell(SAVED) == "14"
        uid, gid, root, etc = chromium.run_cell(LIMITS).split()
        assert (int(uid) > 0, int(gid) > 0, root, etc) == (True, True, "False", "False")
        if os.environ.get("VRE_SCREENSHOT"):
            chromium.screenshot(project() / "docs" / "images" / "notebook.png")
        assert chromium.problems == []


@pytest.mark.requirement("P-68")
def test_a_wrong_password_opens_nothing(site: Launch, tmp_path: Path) -> None:
    url = site.outputs["services"]["jupyter"]
    with browser(tmp_path, authority=site.outputs["authority"], space=NAMESPACE) as chromium:
        assert "/hub/login" in chromium.sign_in(url, site.outputs["user"], "not the password")
        assert chromium.status(f"{url.rstrip('/')}/hub/home") in {302, 403}


@pytest.mark.requirement("P-50", "P-57")
def test_no_service_runs_as_root(site: Launch) -> None:
    for pod in site.control.objects("pods", "--namespace", "jupyter"):
        spec = pod["spec"]
        for container in spec["containers"]:
            security = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
            assert security.get("runAsNonRoot") is True, pod["metadata"]["name"]
            assert security.get("allowPrivilegeEscalation") is False
            assert security["capabilities"]["drop"] == ["ALL"]
