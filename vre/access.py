"""The operators' keys: which public ones go onto machines, which private one launches. Never holds a private key."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vre.config import Config
from vre.errors import Finding
from vre.fields import PublicKey
from vre.paths import project, state

STATE = ".vre/"
MADE = (".vre/id_ed25519.pub", ".vre/id_ed25519")
"""Files of a stack file that set-up makes."""
REPOSITORY_KEY = ".vre/packages/vre.asc"
PUBLIC = "-----BEGIN PGP PUBLIC KEY BLOCK-----"


def located(path: str) -> Path:
    """Return where a path of a stack file leads: `.vre/` is the folder of this checkout's state, `~` one's home."""
    if path.startswith(STATE):
        return state() / path.removeprefix(STATE)
    return project() / Path(path).expanduser()


def keys(config: Config) -> tuple[str, ...]:
    """Return every operator's public key as one line, those in files read. Call `check` first."""
    lines = (located(key).read_text().strip() if _is_path(key) else key for key in config.access.keys)
    return tuple(dict.fromkeys(lines))


def identity(config: Config) -> str:
    """Return the path of the private key that launches, or nothing for the agent's and the default ones."""
    if config.access.identity:
        return str(located(config.access.identity))
    beside = (located(key).with_suffix("") for key in config.access.keys if _is_path(key))
    return next((str(path) for path in beside if path.exists()), "")


def repository_key(config: Config) -> str:
    """Return the public key that packages of our own are signed with, as text. Call `check` first."""
    return repository_key_file(config).read_text()


def repository_key_file(config: Config) -> Path:
    """Return where the stack's repository key lies: where the stack file says, else the one made in this project."""
    return located(config.patches.key or REPOSITORY_KEY)


def check(config: Config, *, prepared: bool = True) -> list[Finding]:
    """Return what is wrong with the files that the keys stand in; before set-up, without the ones that it makes."""
    found = [
        Finding(key=f"vre:access.keys.{index}", reason=reason, example="make setup makes .vre/id_ed25519.pub")
        for index, key in enumerate(config.access.keys)
        if _is_path(key) and _wanted(key, prepared) and (reason := _fault(located(key)))
    ]
    private = config.access.identity
    if private and _wanted(private, prepared) and not located(private).exists():
        found.append(Finding(key="vre:access.identity", reason=f"there is no file {located(private)}"))
    if config.patches.repository and (reason := _no_key(repository_key_file(config))):
        found.append(Finding(key="vre:patches.key", reason=reason, example="vre packages makes .vre/packages/vre.asc"))
    return found


def _wanted(path: str, prepared: bool) -> bool:
    return prepared or path not in MADE or located(path).exists()


def _no_key(file: Path) -> str:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        return f"{file} cannot be read"
    whole = text.startswith(PUBLIC) and "PRIVATE" not in text
    return "" if whole else f"{file} is no public key: it begins with {PUBLIC}"


def _is_path(key: str) -> bool:
    return key.endswith(".pub") and " " not in key


def _fault(file: Path) -> str:
    try:
        TypeAdapter(PublicKey).validate_python(file.read_text().strip())
    except (OSError, UnicodeDecodeError):
        return f"{file} cannot be read"
    except ValidationError as error:
        return f"{file}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
    return ""
