"""Somebody else at the machine's address: `python -m tests.machine.impostor ADDRESS PORT LOG`.

Writes down who tries to log in, and lets everybody in: only a client that looks at the host key is safe from it.
"""

import socket
import sys
import threading
from pathlib import Path

import paramiko


class Door(paramiko.ServerInterface):
    """Accepts every login and writes it down."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def get_allowed_auths(self, username: str) -> str:
        """Offer all."""
        return "publickey,password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Accept."""
        return self._accept(f"{username} came with a key")

    def check_auth_password(self, username: str, password: str) -> int:
        """Accept."""
        return self._accept(f"{username} came with a password")

    def _accept(self, line: str) -> int:
        with self.log.open("a") as out:
            out.write(f"{line}\n")
        return paramiko.common.AUTH_SUCCESSFUL


def serve(address: str, port: int, log: Path) -> None:
    """Answer until killed."""
    key = paramiko.RSAKey.generate(2048), paramiko.ECDSAKey.generate()
    with socket.create_server((address, port)) as listener:
        print("ready", flush=True)
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_greet, args=(peer, key, log), daemon=True).start()


def _greet(peer: socket.socket, keys: tuple[paramiko.PKey, ...], log: Path) -> None:
    with log.open("a") as out:
        out.write("somebody came\n")
    transport = paramiko.Transport(peer)
    for key in (*keys, _ed25519()):
        transport.add_server_key(key)
    try:
        transport.start_server(server=Door(log))
        transport.join(20)
    except (EOFError, paramiko.SSHException, OSError):
        pass
    finally:
        transport.close()


def _ed25519() -> paramiko.PKey:
    """Make a key of the kind that our machines have; paramiko has no way of its own to."""
    import io

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
