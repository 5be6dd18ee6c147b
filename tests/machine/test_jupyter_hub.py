"""Jupyter from its locks, its configuration and its settings, used through a browser; no cluster."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.machine.browser import Browser, browser
from tests.machine.hub import SPACE, URL, Stack, environments, jupyter, run_hub
from tests.patience import until
from vre.paths import project
from vre.run import run
from vre.services.jupyter.settings import Jupyter

PASSWORDS = {"admin": "a-first-for-tests-73", "bob.smith": "b-first-for-tests-73", "carol": "c-first-for-tests-73"}
SETTINGS = Jupyter(users=("bob.smith", "carol"), terminal=False, idle_minutes=600)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("hub")
    environments(folder)
    with jupyter(folder, SETTINGS, PASSWORDS) as running:
        yield running


@pytest.fixture
def chromium(stack: Stack, tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path, authority=stack.authority, space=SPACE, patience=180) as started:
        yield started


@pytest.mark.requirement("C-20")
def test_a_user_runs_cells(stack: Stack, chromium: Browser, tmp_path: Path) -> None:
    chromium.login(URL, "bob.smith", PASSWORDS["bob.smith"])
    assert chromium.run_cell("print(6 * 7)") == "42"
    assert "ZeroDivisionError" in chromium.run_cell("1 / 0")
    assert chromium.run_cell("sum(range(10))") == "45"
    chromium.screenshot(tmp_path / "cell.png")


def cell(stack: Stack, password: str, code: str) -> str:
    """Run a cell as the image's own test does, from inside the namespace."""
    program = (
        "import sys; from vre.errors import VreError; from vre.progress import silent\n"
        "from vre.release.cell import Door, run_cell\n"
        "url, password, code, file = sys.argv[1:]\n"
        "door = Door(url=url, user='carol', password=password, authority=open(file).read())\n"
        "try: print(run_cell(door, code, patience=120, report=silent), end='')\n"
        "except VreError as error: print(f'refused: {error.message}', end='')\n"
    )
    words: list[str | Path] = [URL, password, code, stack.folder / "authority.pem"]
    return run(["ip", "netns", "exec", SPACE, sys.executable, "-W", "error", "-c", program, *words], cwd=project())


@pytest.mark.drill
def test_a_cell_runs_without_a_browser(stack: Stack) -> None:
    assert cell(stack, PASSWORDS["carol"], "print(6 * 7)") == "42\n"
    assert cell(stack, PASSWORDS["carol"], "1 / 0") == "refused: the cell failed: ZeroDivisionError: division by zero"
    assert "does not let carol in" in cell(stack, "a-wrong-one-for-tests-73", "print(6 * 7)")


@pytest.mark.requirement("P-51")
def test_without_a_terminal_there_is_none(stack: Stack, chromium: Browser) -> None:
    chromium.login(URL, "bob.smith", PASSWORDS["bob.smith"])
    assert chromium.status(f"{URL}user/bob.smith/api/status") == 200
    assert chromium.status(f"{URL}user/bob.smith/api/terminals") in {403, 404}


def test_cookies_go_over_tls_only(stack: Stack, chromium: Browser) -> None:
    chromium.login(URL, "bob.smith", PASSWORDS["bob.smith"])
    cookies = chromium.context.cookies()
    assert cookies
    assert [cookie["name"] for cookie in cookies if not cookie["secure"]] == []


@pytest.mark.requirement("P-39")
def test_a_reboot_is_announced_once_before_it_and_not_to_strangers(
    stack: Stack, chromium: Browser, tmp_path: Path
) -> None:
    chromium.login(URL, "bob.smith", PASSWORDS["bob.smith"])
    page, shown = chromium.page, chromium.page.locator(".jp-toast-message")
    at = datetime.now(UTC) + timedelta(minutes=30)
    note = {"vre/reboot-at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "vre/reboot-why": "kernel <b>a</b> -> b"}
    assert shown.count() == 0
    stack.note(note)
    try:
        shown.first.wait_for()
        with page.expect_response(lambda each: each.url == f"{URL}hub/notice") as again:
            pass
        assert again.value.json()["at"] == note["vre/reboot-at"]
        assert page.evaluate("() => 1") == 1  # what the answer led to is done
        (text,) = shown.all_inner_texts()
        assert "Save your work" in text
        assert "(kernel <b>a</b> -> b)" in text  # as text, not as a page's elements
        chromium.screenshot(tmp_path / "notice.png")
        page.goto(f"{URL}hub/home")
        banner = page.locator("#notice:not([hidden])")
        banner.wait_for()
        assert banner.inner_text() == text
        chromium.context.clear_cookies()
        stranger = "async () => { const told = await fetch('notice'); return [told.status, await told.text()]; }"
        assert page.evaluate(stranger) == [403, "{}"]
    finally:
        stack.note({})


def test_nobody_signs_up(stack: Stack) -> None:
    assert stack.status("hub/login") == 200
    assert stack.status("hub/signup") == 404


@pytest.mark.requirement("P-68")
def test_wrong_passwords_lock_an_account(stack: Stack, chromium: Browser) -> None:
    for _ in range(6):
        assert "login" in chromium.sign_in(URL, "carol", "wrong" + "-" * 60)
    assert "login" in chromium.sign_in(URL, "carol", PASSWORDS["carol"])
    assert stack.log("hub").count("audit: carol is locked") == 1


def test_a_password_longer_than_bcrypt_takes_is_just_wrong(stack: Stack, chromium: Browser) -> None:
    chromium.sign_in(URL, "admin", "x" * 100)
    assert "Invalid username or password" in chromium.page.inner_text("body")


@pytest.mark.requirement("P-68", "P-90")
def test_an_account_taken_out_of_the_stack_is_out_at_once(stack: Stack, chromium: Browser) -> None:
    chromium.login(URL, "bob.smith", PASSWORDS["bob.smith"])
    remaining = {user: password for user, password in PASSWORDS.items() if user != "bob.smith"}
    run_hub(stack, SETTINGS.model_copy(update={"users": ("carol",)}), remaining)
    chromium.page.goto(f"{URL}hub/home")
    assert "hub/login" in chromium.page.url
    assert "login" in chromium.sign_in(URL, "bob.smith", PASSWORDS["bob.smith"])


def test_a_password_changed_in_the_stack_counts_and_one_changed_by_its_user_stays(
    stack: Stack, chromium: Browser
) -> None:
    chosen, later = "chosen-by-the-admin-61", "a-second-for-tests-73"
    assert "login" not in chromium.sign_in(URL, "admin", PASSWORDS["admin"])
    chromium.page.goto(f"{URL}hub/change-password")
    for field, text in (("old_password", PASSWORDS["admin"]), ("new_password", chosen)):
        chromium.page.fill(f"input[name={field}]", text)
    chromium.page.fill("input[name=new_password_confirmation]", chosen)
    chromium.page.keyboard.press("Enter")
    chromium.page.get_by_text("changed successfully").wait_for()
    run_hub(stack, SETTINGS, PASSWORDS)
    chromium.context.clear_cookies()
    assert "login" in chromium.sign_in(URL, "admin", PASSWORDS["admin"])
    assert "login" not in chromium.sign_in(URL, "admin", chosen)
    run_hub(stack, SETTINGS, {**PASSWORDS, "admin": later})
    chromium.context.clear_cookies()
    assert "login" in chromium.sign_in(URL, "admin", chosen)
    assert "login" not in chromium.sign_in(URL, "admin", later)


@pytest.mark.drill
def test_an_idle_server_is_stopped(stack: Stack, chromium: Browser) -> None:
    chromium.login(URL, "bob.smith", PASSWORDS["bob.smith"])
    assert chromium.run_cell("1 + 1") == "2"
    assert servers(), "no server runs"
    chromium.page.goto("about:blank")
    # Shorter than a stack file may ask for: the test is about whether it is stopped at all.
    run_hub(stack, SETTINGS.model_copy(update={"idle_minutes": 1}), PASSWORDS)
    until(lambda: servers() == [], "the server is stopped", seconds=600, pause=2)
    assert servers() == []
    assert "Culling server bob.smith" in stack.log("hub")


def servers() -> list[str]:
    """Return the processes of users' servers."""
    pids = run(["ip", "netns", "pids", SPACE]).split()
    commands = (Path("/proc", pid, "cmdline") for pid in pids)
    shown = (file.read_bytes().replace(b"\0", b" ").decode() for file in commands if file.exists())
    return [text for text in shown if "jupyterhub-singleuser" in text]
