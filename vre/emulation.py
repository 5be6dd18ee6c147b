"""What an emulated machine is like: its kernel's clock counts right, its timers fire, its processor is quick. Pure."""

# Under TCG on a busy host a timer's wakeup gets lost now and then, and a guest that waits for it waits for ever (seen
# with QEMU 10.0 and Linux 6.12). With a tick that never stops, the next one heals it.
TICK = "nohz=off highres=off"


# What an emulated processor had better not have. A repeated string instruction is emulated step by step, so the more
# bytes a step moves the better, and with these two features the kernel and the C library choose bytes. Without five
# levels of page tables each walk through them is shorter.
LACKING = ("erms", "fsrm", "la57")


def steady(khz: int = 0) -> str:
    """Return the words for the kernel, as an SMBIOS string that systemd-boot passes on.

    `khz` is the frequency of the host's time stamp counter, which TCG hands through; 0 where nobody knows it. A guest
    that measures it while the host is busy gets it wrong by several times (seen: 704 MHz for 2445), and every timeout
    in the guest is that much too short. Told, it is right; unknown, the slower HPET counts instead.
    """
    clock = f"tsc_early_khz={khz}" if khz else "tsc=unstable clocksource=hpet"
    return f"io.systemd.boot.kernel-cmdline-extra={TICK} {clock}"
