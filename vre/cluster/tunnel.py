"""A socket to a port of a machine's own loopback address, through SSH: no port is opened on either side."""

import contextlib
import select
import socket
import threading

import paramiko

from vre.machine.ssh import Shell

CHUNK = 65536


def connect(shell: Shell, port: int) -> socket.socket:
    """Return a connected socket. Closing it closes the tunnel. Raises Unreachable when nothing listens there."""
    channel = shell.tunnel(port)
    near, far = socket.socketpair()
    for pump in (_inwards, _outwards):
        threading.Thread(target=pump, args=(channel, far), daemon=True, name="tunnel").start()
    return near


def _inwards(channel: paramiko.Channel, far: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := channel.recv(CHUNK):
            far.sendall(data)
    _close(channel, far)


def _outwards(channel: paramiko.Channel, far: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError, ValueError, paramiko.SSHException):
        while select.select([far], [], []) and (data := far.recv(CHUNK)):
            channel.sendall(data)
    _close(channel, far)


def _close(channel: paramiko.Channel, far: socket.socket) -> None:
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)
    channel.close()
