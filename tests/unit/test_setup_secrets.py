"""The passphrase and the key of a checkout: made once, for their owner alone, refused when they are not."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_ssh_private_key,
)

from vre.errors import VreError
from vre.setup.secrets import ensure_key, ensure_passphrase

Ensure = Callable[[Path], Path]
BOTH = pytest.mark.parametrize("ensure", [ensure_passphrase, ensure_key])


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.requirement("P-44")
@BOTH
def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path, ensure: Ensure) -> None:
    before = os.umask(0)  # the most careless setting a person can have
    try:
        file = ensure(tmp_path / "state")
    finally:
        os.umask(before)
    content = file.read_bytes()
    assert mode(file) == 0o600
    assert mode(file.parent) == 0o700
    assert ensure(tmp_path / "state").read_bytes() == content
    assert not [path for path in file.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.requirement("P-44")
@BOTH
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o601])
def test_a_secret_others_can_reach_is_refused(tmp_path: Path, ensure: Ensure, bits: int) -> None:
    file = ensure(tmp_path)
    file.chmod(bits)
    with pytest.raises(VreError, match=f"can be read by others \\(mode {bits:04o}\\)") as told:
        ensure(tmp_path)
    assert f"chmod 600 {file}" in told.value.hint
    assert file.read_text().strip() not in str(told.value)


@pytest.mark.requirement("P-44")
@BOTH
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_secret_that_lies_elsewhere_is_refused(tmp_path: Path, ensure: Ensure, target: str) -> None:
    file = ensure(tmp_path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(target)
    with pytest.raises(VreError, match="no ordinary file"):
        ensure(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@BOTH
def test_a_secret_of_another_user_is_refused(tmp_path: Path, ensure: Ensure) -> None:
    os.chown(ensure(tmp_path), 12345, -1)
    with pytest.raises(VreError, match="belongs to another user"):
        ensure(tmp_path)


def test_passphrases_are_long_and_differ(tmp_path: Path) -> None:
    one, two = (ensure_passphrase(tmp_path / name).read_text().strip() for name in "ab")
    assert one != two
    assert len(one) == 43  # 32 bytes in base 64


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "passphrase").touch(0o600)
    with pytest.raises(VreError, match="is empty"):
        ensure_passphrase(tmp_path)


def test_who_comes_second_takes_the_secret_of_the_first(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from vre.setup.secrets import ensure_passphrase\n"
    script += "print(ensure_passphrase(Path(sys.argv[1])).read_text())"
    command = [sys.executable, "-c", script, str(tmp_path)]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate(timeout=60)[0] for process in several}) == 1


def test_the_key_is_an_openssh_one_and_its_public_half_lies_beside_it(tmp_path: Path) -> None:
    file = ensure_key(tmp_path)
    key = load_ssh_private_key(file.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    kind, _, comment = file.with_name("id_ed25519.pub").read_text().split()
    assert (kind, comment) == ("ssh-ed25519", "vre")


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("ssh-ed25519 AAAA other")])
def test_a_public_half_that_does_not_belong_to_the_key_is_made_again(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    public = ensure_key(tmp_path).with_name("id_ed25519.pub")
    content = public.read_text()
    spoil(public)
    ensure_key(tmp_path)
    assert public.read_text() == content


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "id_ed25519").touch(0o600)
    (tmp_path / "id_ed25519").write_bytes(locked)
    with pytest.raises(VreError, match="no OpenSSH key without a passphrase"):
        ensure_key(tmp_path)
