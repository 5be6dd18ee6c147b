"""How a machine is switched off: asked first, then without asking."""

from typing import Any

from vre.provider.libvirt.connection import module


def shut_down(machine: Any) -> bool:
    """Ask a machine to shut down, as its power button does; say whether it will: one that stands still cannot hear."""
    libvirt = module()
    try:
        machine.shutdown()
    except libvirt.libvirtError:
        return bool(machine.isActive() and machine.state()[0] == libvirt.VIR_DOMAIN_SHUTDOWN)
    return True


def power_off(machine: Any) -> None:
    """End a machine: QEMU first writes what it holds; where it does not end by itself it is killed."""
    libvirt = module()
    for end in (lambda: machine.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL), machine.destroy):
        try:
            if machine.isActive():
                end()
        except libvirt.libvirtError:
            if end == machine.destroy and machine.isActive():
                raise
