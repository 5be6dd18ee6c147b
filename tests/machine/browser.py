"""A researcher's browser: headless Chromium that trusts only what it is told to, logs in to Jupyter, and runs cells."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import BrowserContext, Error, Locator, Page, expect, sync_playwright

from vre.run import run

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"
CELLS = f"{NOTEBOOK} .jp-CodeCell"
DONE = re.compile(r"\[\d+\]:")


class Browser:
    """One browser with one page. `patience` is how long it waits for a page or a cell, in seconds."""

    def __init__(self, context: BrowserContext, *, patience: float) -> None:
        self.context = context
        self.patience = patience
        self.page: Page = context.pages[0] if context.pages else context.new_page()
        self.problems: list[str] = []
        self.dialogs: list[str] = []
        context.set_default_timeout(patience * 1000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.add_locator_handler(self.page.locator(".jp-Dialog").first, self._answer)

    def sign_in(self, url: str, user: str, password: str) -> str:
        """Fill in the login form of the service at `url` and return the address that the browser is sent to."""
        self.page.goto(f"{url.rstrip('/')}/hub/login")
        self.page.fill("#username_input", user)
        self.page.fill("#password_input", password)
        self.page.click("#login_submit")
        self.page.wait_for_load_state()
        return self.page.url

    def login(self, url: str, user: str, password: str) -> None:
        """Log in, wait for the user's server to start, and open a new notebook."""
        self.sign_in(url, user, password)
        start = self.page.locator("#start")
        shell = self.page.locator("#jp-main-dock-panel")
        self._wait(start.or_(shell).or_(self.page.locator("#progress-bar")).first)
        if start.is_visible():
            start.click()
        self._wait(shell)
        self.page.locator('[data-command="launcher:create"]').first.click()
        self.page.locator('.jp-LauncherCard[data-category="Notebook"]').locator("visible=true").first.click()
        self._wait(self.page.locator(f"{CELLS} .cm-content").first)
        self._wait(self.page.locator(f"{NOTEBOOK} .jp-NotebookPanel-toolbar [data-status='idle']").first)

    def run_cell(self, code: str) -> str:
        """Run code in the notebook's last cell and return what is shown below it."""
        number = self.page.locator(CELLS).count() - 1
        cell = self.page.locator(CELLS).nth(number)
        editor = cell.locator(".cm-content")
        editor.click()
        expect(cell.locator(".cm-editor.cm-focused")).to_be_visible()
        self.page.keyboard.insert_text(code)
        editor.press("Shift+Enter")
        self._until_run(cell)
        shown = cell.locator(".jp-OutputArea-output")
        return "\n".join(shown.all_inner_texts()).strip()

    def _until_run(self, cell: Locator) -> None:
        """Wait until a cell has run. Asked again while its kernel is idle: a page on a slow machine loses keys, and Lab
        sometimes ends a notebook's first kernel, with what it was asked, and starts another.
        """
        prompt = cell.locator(".jp-InputArea-prompt")
        idle = self.page.locator(f"{NOTEBOOK} .jp-NotebookPanel-toolbar [data-status='idle']")
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            with suppress(AssertionError):
                expect(prompt).to_have_text(DONE, timeout=20_000)
                return
            if idle.count():
                cell.locator(".cm-content").press("Shift+Enter")
        expect(prompt).to_have_text(DONE)

    def status(self, url: str) -> int:
        """Open an address in another tab and return the status of its first answer: 302 when it leads elsewhere."""
        tab = self.context.new_page()
        answer = tab.goto(url)
        request = answer.request if answer else None
        while request and request.redirected_from:
            request = request.redirected_from
        first = request.response() if request else None
        tab.close()
        return first.status if first else 0

    def screenshot(self, path: Path) -> None:
        """Keep what the page looks like."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def _answer(self, dialog: Locator) -> None:
        """Answer a dialog that lies over the page and remember what it said; on slow machines Lab asks for patience."""
        self.dialogs.append(dialog.inner_text())
        patient = dialog.get_by_text("Keep Waiting", exact=True)
        (patient if patient.count() else dialog.locator("button.jp-mod-accept")).first.click()

    def _wait(self, what: Locator) -> None:
        what.wait_for(timeout=self.patience * 1000)


@contextmanager
def browser(folder: Path, *, authority: str, space: str = "", patience: float = 600) -> Iterator[Browser]:
    """Start Chromium with an empty profile in `folder`, trusting the authority (PEM) besides the usual ones.

    With `space` it runs in that network namespace. Certificates are checked: a wrong one ends the test. What the page
    looks like in the end is kept as last.png.
    """
    home = folder / "home"
    _trust(home, authority)
    program = _inside(folder, space) if space else CHROMIUM
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=program,
            headless=True,
            chromium_sandbox=False,  # the tests run as root
            args=list(FLAGS),
            env={"HOME": str(home), "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
            viewport={"width": 1280, "height": 900},
        )
        started = Browser(context, patience=patience)
        try:
            yield started
        finally:
            with suppress(Error):
                started.screenshot(folder / "last.png")
            context.close()


def _trust(home: Path, authority: str) -> None:
    """Put the authority where Chromium looks for a user's own."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True, mode=0o700)
    pem = home / "authority.pem"
    pem.write_text(authority)
    database = f"sql:{store}"
    run(["certutil", "-d", database, "-N", "--empty-password"], hint="install libnss3-tools")
    run(["certutil", "-d", database, "-A", "-n", "vre", "-t", "C,,", "-i", pem])


def _inside(folder: Path, space: str) -> Path:
    """Return a program that starts Chromium in a network namespace; the test talks to it through a pipe."""
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec ip netns exec {space} {CHROMIUM} "$@"\n')
    program.chmod(0o755)
    return program
