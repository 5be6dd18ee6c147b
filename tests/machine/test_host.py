"""The hardening of the host, on the started image: each CIS rule, Lynis, sshd's algorithms; and that they can fail."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from vre import image
from vre.artifacts.sandbox import inside, network
from vre.artifacts.store import Store
from vre.cli import host
from vre.cli.host_rules import Rule, rules
from vre.image import boot, check
from vre.progress import silent

RULES = rules()
LEAST = 85
BREAKS = {
    "1.5.1": "sysctl -q kernel.randomize_va_space=1",
    "3.3.5": "sysctl -q net.ipv4.conf.all.accept_redirects=1",
    "5.1.1": "chmod 644 /etc/ssh/sshd_config",
    "5.4.2.1": "useradd --non-unique --uid 0 --gid nogroup --no-create-home --shell /usr/sbin/nologin second",
    "6.2.3.21": "echo '-w /etc/fstab -p wa -k new' > /etc/audit/rules.d/new.rules",
    "Docker 1.1.2": "usermod --append --groups root nobody",
    "7.1.11": "touch /opt/open; chmod 666 /opt/open",
    "7.1.12": "touch /opt/lost; chown 4242 /opt/lost",
    "7.1.13": "chmod u+s /usr/bin/passwd",
}
"""What breaks each of these rules. Done last, on a machine that is thrown away."""


class Shell:
    """Commands as root on the booted guest."""

    def __init__(self, client: paramiko.SSHClient, guest: boot.Guest) -> None:
        self.client = client
        self.guest = guest

    def __call__(self, script: str) -> str:
        way, out, _ = self.client.exec_command("sudo sh -s 2>&1", timeout=900)
        way.write(script)
        way.channel.shutdown_write()
        said = out.read().decode()
        assert out.channel.recv_exit_status() == 0, said
        return said


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Boot the image once; one container runs, as on every machine of a cluster."""
    folder = tmp_path_factory.mktemp("host")
    with boot.boot(image.build(Store(), silent).path, folder, silent) as guest, guest.connect() as client:
        shell = Shell(client, guest)
        shell("cloud-init status --wait")
        shell(
            "picture=$(ctr --namespace k8s.io images ls -q | grep vre/pause: | head -n 1)\n"
            'ctr --namespace k8s.io run --detach --apparmor-default-profile vre-trial "$picture" trial\n'
        )
        yield shell


def broken(shell: Shell) -> dict[str, str]:
    """Return the numbers of the rules that are not kept, as `vre audit` asks and judges."""
    told = shell(host.script([rule.command for rule in RULES]))
    return {rule.id: answer for rule, answer in host.broken(RULES, host.answers(told)).items()}


@pytest.fixture(scope="module")
def first(shell: Shell) -> dict[str, str]:
    """What is broken on the machine as it started."""
    return broken(shell)


@pytest.mark.requirement("H-41", "H-21", "H-37", "C-19", "H-24", "H-30", "H-31", "H-27")
@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.id} {rule.what}"[:70] for rule in RULES])
def test_a_rule_is_kept(first: dict[str, str], rule: Rule) -> None:
    assert rule.id not in first, first[rule.id]


def test_no_unit_failed(shell: Shell) -> None:
    assert shell("systemctl list-units --failed --plain --no-legend") == ""


@pytest.mark.requirement("H-30", "H-31")
@pytest.mark.drill
def test_every_audit_rule_of_the_files_is_in_the_kernel(shell: Shell) -> None:
    """The kernel's list leaves none out, though a path that is not there is no reason to stop."""
    files = shell("cat /etc/audit/rules.d/*.rules").splitlines()
    assert len(shell("auditctl -l").splitlines()) == sum(line.startswith(("-a", "-w")) for line in files)


def test_an_upgrade_of_auditd_finds_it_locked_and_goes_on(shell: Shell) -> None:
    shell("systemctl restart audit-rules.service auditd.service")
    assert shell("systemctl is-active audit-rules.service auditd.service || true").split() == ["inactive", "active"]
    assert broken(shell).keys() & {"6.2.1.2", "6.2.3.20", "6.2.3.21"} == set()


@pytest.mark.requirement("H-24", "H-31")
def test_what_an_operator_does_to_the_container_engine_is_written_down(shell: Shell) -> None:
    shell("touch /etc/containerd/config.toml; touch /usr/sbin/runc; sleep 1")
    for path in ("/etc/containerd/config.toml", "/usr/sbin/runc"):
        assert "key=containers" in shell(
            f"ausearch --input-logs --interpret --key containers --file {path} | tr -d '\"'"
        )


def test_containers_run_under_their_apparmor_profile(shell: Shell) -> None:
    assert "vre-trial (enforce)" in shell("cat /sys/kernel/security/apparmor/profiles")
    assert "vre-trial (enforce)" in shell("cat /proc/$(pgrep -x pause)/attr/current")


@pytest.mark.requirement("P-36")
def test_sshd_offers_nothing_weak(shell: Shell) -> None:
    """ssh-audit finds one fault: a key exchange that quantum computers may break, beside those that they may not.

    Paramiko has no other, and is what the launch comes with.
    """
    words = ("-m", "ssh_audit.ssh_audit", "--level", "warn", "--skip-rate-test", "--no-colors", "--timeout", "60")
    command = [sys.executable, *words, "--port", str(shell.guest.port), "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = re.findall(r"^\((\w+) *\) (\S+) +-- \[(?:fail|warn)\]", done.stdout, re.MULTILINE)
    assert "(rec)" in done.stdout, done.stdout + done.stderr
    assert faults == [("kex", "curve25519-sha256"), ("kex", "curve25519-sha256@libssh.org")]


@pytest.fixture(scope="module")
def lynis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lynis as Debian packages it. It is a tool of the test, not of the machine."""
    with check.unpacked(Store()) as root:
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        (root / "etc/resolv.conf").touch()
        fetch = "apt-get -q update && apt-get -q -o APT::Sandbox::User=root download lynis"
        script = f"cd /opt && {fetch} && mv lynis_* lynis.deb"
        inside(root, ["sh", "-c", script], lend=network(os.environ, Path.home()))
        target = tmp_path_factory.mktemp("lynis") / "lynis.deb"
        target.write_bytes((root / "opt/lynis.deb").read_bytes())
    return target


@pytest.mark.requirement("H-24", "P-24")
def test_a_changed_program_is_found_and_an_untouched_machine_is_not_accused(shell: Shell) -> None:
    look = "/usr/lib/vre/integrity.py || true; cat /var/lib/vre/integrity.json"
    assert '"strange": []' in shell(look)
    shell("echo '# new' >> /usr/sbin/augenrules; chmod g+w /usr/bin/ls; touch /etc/systemd/system/new.service")
    assert '"strange": ["/etc/systemd/system/new.service", "/usr/bin/ls", "/usr/sbin/augenrules"]' in shell(look)
    shell("chmod g-w /usr/bin/ls; rm /etc/systemd/system/new.service; sed -i '$d' /usr/sbin/augenrules")
    assert '"strange": []' in shell(look)


@pytest.mark.drill
@pytest.mark.requirement("H-21", "C-19")
def test_lynis_finds_it_hardened(shell: Shell, lynis: Path) -> None:
    """Lynis asks for USBGuard, which guards a bus that machines do not have. All else that it asks for counts."""
    with shell.client.open_sftp() as session:
        session.put(str(lynis), "/home/vre/lynis.deb")
    shell("test ! -e /sys/bus/usb/devices && mkdir /etc/lynis && echo skip-test=USB-3000 > /etc/lynis/custom.prf")
    shell("dpkg-deb --extract /home/vre/lynis.deb / && lynis audit system --quick --no-colors > /dev/null")
    report = shell("cat /var/log/lynis-report.dat")
    found = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert found is not None, report
    assert int(found[1]) >= LEAST, "\n".join(line for line in report.splitlines() if line.startswith("suggestion"))


@pytest.mark.requirement("H-27")
def test_a_rule_that_is_broken_is_seen(shell: Shell, first: dict[str, str]) -> None:
    """Last: the machine is not what it was any more."""
    shell("\n".join(BREAKS.values()))
    # A second account with root's number breaks the rule about numbers, too.
    assert broken(shell).keys() - first.keys() == {*BREAKS, "7.2.5"}
