"""Who may log in to the hub: the stack's accounts, and those that an admin adds. Nobody signs up by himself."""

import json
import secrets
from pathlib import Path
from typing import Any

import bcrypt
import notice
from jupyterhub import orm, roles
from jupyterhub.handlers.login import LoginHandler
from nativeauthenticator import NativeAuthenticator
from nativeauthenticator.orm import UserInfo
from traitlets import Unicode

GROUP = "stack"  # the hub's group of the accounts that the stack file names
LONGEST = 72  # bytes of a password: bcrypt refuses more


class Accounts(NativeAuthenticator):
    """NativeAuthenticator, whose accounts come from the stack's secrets and from the admin page."""

    folder = Unicode(help="One file for each account of the stack: named like the user, holding the password").tag(
        config=True
    )
    settled = Unicode(help="File of the hub: hashes of the stack's passwords as they were last set").tag(config=True)

    def add_user(self, user: Any) -> None:
        """Give a user an account. The hub calls this for all users when it starts, and for each that is added."""
        super().add_user(user)
        row = orm.User.find(self.db, user.name)  # the hub hands in the row itself or a wrapper
        if row.name in self._listed():
            self._adopt(row)
        elif any(group.name == GROUP for group in row.groups):
            self._dismiss(row)
        elif self.get_user(user.name) is None:
            self._set(user.name, secrets.token_urlsafe(32))  # nobody knows it: the admin sets one

    async def authenticate(self, handler: Any, data: dict[str, str]) -> Any:
        """Let a user in whose password is right, unless too many wrong ones were tried: that leaves one line."""
        name = self.normalize_username(data["username"])
        if len(data["password"].encode()) > LONGEST:
            return None
        if name in self._listed():
            self._settle(name)
        before = self.is_blocked(name)
        user = await super().authenticate(handler, data)
        if self.is_blocked(name) and not before:
            self.log.warning(
                "audit: %s is locked for %d s after %d failed logins, the last from %s",
                name,
                self.seconds_before_next_try,
                self.allowed_failed_logins,
                handler.request.remote_ip,
            )
        return user

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
        """Return the pages: the hub's own login (NativeAuthenticator 1.3.0's fails in JupyterHub 6), passwords.

        Not its pages for signing up, and not those that allow, disable or discard an account by a mere link. The page
        `notice` comes with them, since JupyterHub deprecates `extra_handlers`.
        """
        kept = [(path, page) for path, page in super().get_handlers(app) if path.startswith("/change-password")]
        return [("/login", LoginHandler), *kept, *notice.pages(app)]

    async def refresh_user(self, user: Any, handler: Any = None) -> bool:
        """Say whether a session may go on: it ends when the account is blocked, disabled or deleted."""
        account = self.get_user(user.name)
        return bool(account and account.is_authorized and user.name not in self.blocked_users)

    def is_password_strong(self, password: str) -> bool:
        """Say whether a user may choose this password."""
        return len(password.encode()) <= LONGEST and super().is_password_strong(password)

    def _listed(self) -> dict[str, Path]:
        return {path.name: path for path in Path(self.folder).iterdir() if not path.name.startswith(".")}

    def _adopt(self, user: Any) -> None:
        """Make an account of the stack, with the rights that the stack file gives."""
        group = orm.Group.find(self.db, GROUP) or orm.Group(name=GROUP)
        if group not in user.groups:
            user.groups.append(group)
        user.admin = user.name in self.admin_users
        self.db.commit()
        roles.assign_default_roles(self.db, entity=user)
        self._settle(user.name)
        self.get_user(user.name).is_authorized = True
        self.db.commit()

    def _dismiss(self, user: Any) -> None:
        """Disable an account that the stack file named once and does not name now. The home stays."""
        account = self.get_user(user.name)
        if account is not None:
            account.is_authorized = False
        user.groups = [group for group in user.groups if group.name != GROUP]
        user.admin = False
        self.db.commit()
        roles.assign_default_roles(self.db, entity=user)
        self.log.warning("audit: %s is disabled: no longer named in the stack file", user.name)

    def _settle(self, name: str) -> None:
        """Set the stack's password when it is new or changed there; what a user set since then stays."""
        password = self._listed()[name].read_bytes().strip()
        file = Path(self.settled)
        done = json.loads(file.read_text()) if file.exists() else {}
        if self.get_user(name) and name in done and bcrypt.checkpw(password, done[name].encode()):
            return
        hashed = self._set(name, password.decode())
        file.with_suffix(".new").write_text(json.dumps({**done, name: hashed.decode()}))
        file.with_suffix(".new").replace(file)
        self.log.warning("audit: the password of %s is the stack file's now", name)

    def _set(self, name: str, password: str) -> bytes:
        hashed: bytes = bcrypt.hashpw(password.encode(), bcrypt.gensalt())
        account = self.get_user(name)
        if account is None:
            account = UserInfo(username=name, is_authorized=True)
            self.db.add(account)
        account.password = hashed
        self.db.commit()
        return hashed
