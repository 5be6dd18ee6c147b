"""What holds on every machine: CIS rules as a table of commands and of what they must answer.

Numbers without a word before them are those of the CIS Debian Linux 12 Benchmark 1.1.0; `Docker` and `Kubernetes` stand
before those of the CIS Docker Benchmark 1.7.0 and the CIS Kubernetes Benchmark 1.12. Which rules are not kept, and why:
docs/security/host.md.

The commands run as root in an empty folder of their own, where PREPARE has left what many of them read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PREPARE = (
    "sshd -T > sshd 2> /dev/null; auditctl -l > audit; auditctl -s > state; augenrules --check > drift; "
    "modprobe --showconfig > modules; cat /etc/sudoers /etc/sudoers.d/* > sudo; "
    "systemd-analyze cat-config systemd/journald.conf > journald 2> /dev/null"
)
# What containers and users bring has owners of its own, and is not the machine's.
INSTALLED = "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' {} 2> /dev/null | grep ^i"
SERVERS = (
    "autofs avahi-daemon isc-dhcp-server bind9 dnsmasq vsftpd slapd dovecot-imapd nfs-kernel-server ypserv cups "
    "rpcbind rsync samba snmpd tftpd-hpa squid apache2 nginx xinetd xserver-common exim4 postfix"
)
TEMPORARY = "/tmp"  # noqa: S108 - looked at, not used
BASE = "/var/lib/aide/aide.db"
OURS = "-xdev -not -path '/var/lib/containerd/*' -not -path '/var/lib/kubelet/*' -not -path '/var/lib/vre/data/*'"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its number, what it asks, the command that looks (sh), the answer as a regular expression."""

    id: str
    what: str
    command: str
    wanted: str


def _rule(id: str, what: str, command: str, wanted: str) -> Rule:
    return Rule(id=id, what=what, command=command, wanted=wanted)


def _modules() -> Iterator[Rule]:
    """Modules that cannot be loaded, and are not."""
    for id, name in (
        ("1.1.1.1", "cramfs"), ("1.1.1.2", "freevxfs"), ("1.1.1.3", "hfs"), ("1.1.1.4", "hfsplus"),
        ("1.1.1.5", "jffs2"), ("1.1.1.7", "squashfs"), ("1.1.1.9", "usb_storage"),
        ("3.2.1", "dccp"), ("3.2.2", "tipc"), ("3.2.3", "rds"), ("3.2.4", "sctp"),
    ):  # fmt: skip
        command = f"grep -cE '^(install {name} /bin/false|blacklist {name})$' modules; grep -c '^{name} ' /proc/modules"
        yield _rule(id, f"the module {name} cannot be loaded", command, "2\n0")


def _kernel() -> Iterator[Rule]:
    """The kernel's own settings."""
    for id, what, values in (
        ("1.5.1", "addresses are random (ASLR)", {"kernel.randomize_va_space": "2"}),
        ("1.5.2", "no process looks into another", {"kernel.yama.ptrace_scope": "[123]"}),
        ("3.3.2", "no redirects are sent", {"net.ipv4.conf.{}.send_redirects": "0"}),
        ("3.3.3", "bogus ICMP is ignored", {"net.ipv4.icmp_ignore_bogus_error_responses": "1"}),
        ("3.3.4", "broadcasts are not answered", {"net.ipv4.icmp_echo_ignore_broadcasts": "1"}),
        (
            "3.3.5",
            "no redirects are accepted",
            {"net.ipv4.conf.{}.accept_redirects": "0", "net.ipv6.conf.{}.accept_redirects": "0"},
        ),
        ("3.3.6", "no redirects of gateways either", {"net.ipv4.conf.{}.secure_redirects": "0"}),
        ("3.3.7", "senders come the way that leads to them", {"net.ipv4.conf.{}.rp_filter": "1"}),
        (
            "3.3.8",
            "no sender chooses the route",
            {"net.ipv4.conf.{}.accept_source_route": "0", "net.ipv6.conf.{}.accept_source_route": "0"},
        ),
        ("3.3.9", "impossible senders are logged", {"net.ipv4.conf.{}.log_martians": "1"}),
        ("3.3.10", "SYN cookies", {"net.ipv4.tcp_syncookies": "1"}),
        ("3.3.11", "no routers are believed", {"net.ipv6.conf.{}.accept_ra": "0"}),
    ):
        every = {
            key.format(kind): value
            for key, value in values.items()
            for kind in (("all", "default") if "{}" in key else ("",))
        }
        yield _rule(id, what, f"sysctl -n {' '.join(every)}", "\n".join(every.values()))


def _ssh() -> Iterator[Rule]:
    """What sshd goes by, as it says itself."""
    for id, name, wanted in (
        ("5.1.4", "allowusers", r"\S.*"),
        ("5.1.5", "banner", "/etc/issue.net"),
        ("5.1.6", "ciphers", r"(?!.*(3des|cbc|arcfour)).+"),
        ("5.1.7", "clientalive(interval|countmax)", r"\d*[1-9]\d*\nclientalive\w+ \d*[1-9]\d*"),
        ("5.1.9", "gssapiauthentication", "no"),
        ("5.1.10", "hostbasedauthentication", "no"),
        ("5.1.11", "ignorerhosts", "yes"),
        ("5.1.12", "kexalgorithms", r"(?!.*(sha1|group1\b)).+"),
        ("5.1.13", "logingracetime", r"([1-9]|[1-5]\d|60)"),
        ("5.1.14", "loglevel", "(INFO|VERBOSE)"),
        ("5.1.15", "macs", r"(?!.*(md5|ripemd|umac-64|sha1|-96)).+"),
        ("5.1.16", "maxauthtries", "[1-4]"),
        ("5.1.17", "maxsessions", r"([1-9]|10)"),
        ("5.1.18", "maxstartups", r"10:30:60"),
        ("5.1.19", "permitemptypasswords", "no"),
        ("5.1.20", "permitrootlogin", "no"),
        ("5.1.21", "permituserenvironment", "no"),
        ("5.1.22", "usepam", "yes"),
    ):
        yield _rule(id, f"sshd: {name}", f"grep -E '^{name} ' sshd", rf"\w+ {wanted}")


def _modes() -> Iterator[Rule]:
    """Owners and modes of files. Those of a cluster are looked at where there is one."""
    root, shadow = "root:root", "root:(root|shadow)"
    for id, path, mode, owner in (
        ("1.6.5", "/etc/issue", "644", root),
        ("1.6.6", "/etc/issue.net", "644", root),
        ("2.4.1.4", "/etc/cron.daily", "700", root),
        ("2.4.1.7", "/etc/cron.d", "700", root),
        ("5.1.1", "/etc/ssh/sshd_config", "600", root),
        ("5.1.1", "/etc/ssh/sshd_config.d/10-vre.conf", "600", root),
        ("5.1.2", "/etc/ssh/ssh_host_ed25519_key", "600", root),
        ("5.1.3", "/etc/ssh/ssh_host_ed25519_key.pub", "6[04][04]", root),
        ("6.2.4.4", "/var/log/audit", "7[05]0", "root:(root|adm)"),
        ("6.2.4.5", "/etc/audit/auditd.conf", "640", root),
        ("6.2.4.5", "/etc/audit/rules.d/vre.rules", "640", root),
        ("6.2.4.8", "/usr/sbin/auditctl", "755", root),
        ("6.2.4.8", "/usr/sbin/auditd", "755", root),
        ("7.1.1", "/etc/passwd", "644", root),
        ("7.1.2", "/etc/passwd-", "6[04][04]", root),
        ("7.1.3", "/etc/group", "644", root),
        ("7.1.4", "/etc/group-", "6[04][04]", root),
        ("7.1.5", "/etc/shadow", "6[04]0", shadow),
        ("7.1.6", "/etc/shadow-", "6[04]0", shadow),
        ("7.1.7", "/etc/gshadow", "6[04]0", shadow),
        ("7.1.8", "/etc/gshadow-", "6[04]0", shadow),
        ("7.1.9", "/etc/shells", "644", root),
        ("7.1.10", "/etc/security/opasswd", "600", root),
        ("Kubernetes 1.1.11", "/var/lib/etcd", "700", "etcd:etcd"),
        ("Kubernetes 4.1.1", "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", "600", root),
        ("Kubernetes 4.1.5", "/etc/kubernetes/kubelet.conf", "600", root),
        ("Kubernetes 4.1.7", "/etc/kubernetes/pki/ca.crt", "6[04][04]", root),
        ("Kubernetes 4.1.9", "/var/lib/kubelet/config.yaml", "600", root),
    ):
        present = "" if id.startswith("Kubernetes 4") or path.endswith("-") else "absent: "
        command = f"test -e {path} && stat -c '%a %U:%G' {path} || echo {present}"
        yield _rule(id, f"owner and mode of {path}", command, f"({mode} {owner})" + ("" if present else "?"))


def _audit() -> Iterator[Rule]:
    """What auditd writes down: the rules as the kernel has them."""
    for id, found in (
        ("6.2.3.1", ("-w /etc/sudoers.d ", "/etc/sudoers ")),
        ("6.2.3.2", ("user_emulation",)),
        ("6.2.3.3", ("/var/log/sudo.log",)),
        ("6.2.3.4", ("clock_settime", "/etc/localtime")),
        ("6.2.3.5", ("sethostname", "/etc/issue.net", "/etc/hosts ", "-w /etc/systemd/network ")),
        ("6.2.3.6", ("path=/usr/bin/sudo",)),
        ("6.2.3.7", ("exit=-EACCES", "exit=-EPERM")),
        ("6.2.3.8", ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/security/opasswd")),
        ("6.2.3.9", ("fchownat", "fchmodat", "lsetxattr")),
        ("6.2.3.10", ("mount",)),
        ("6.2.3.11", ("utmp", "wtmp", "btmp")),
        ("6.2.3.12", ("/var/log/lastlog", "-w /var/lib/wtmpdb ")),
        ("6.2.3.13", ("unlinkat", "renameat2")),
        ("6.2.3.14", ("-w /etc/apparmor.d ", "-w /etc/apparmor ")),
        ("6.2.3.18", ("/usr/sbin/usermod",)),
        ("6.2.3.19", ("finit_module", "/usr/bin/kmod")),
        ("Docker 1.1.8", ("/run/containerd/containerd.sock",)),
        ("Docker 1.1.7", ("/usr/lib/systemd/system/containerd.service",)),
        ("Docker 1.1.12", ("-w /etc/containerd ",)),
        ("Docker 1.1.14", ("/usr/bin/containerd ",)),
        ("Docker 1.1.15", ("/usr/bin/containerd-shim ",)),
        ("Docker 1.1.16", ("/usr/bin/containerd-shim-runc-v1",)),
        ("Docker 1.1.17", ("/usr/bin/containerd-shim-runc-v2",)),
        ("Docker 1.1.18", ("/usr/sbin/runc",)),
        ("Kubernetes", ("/usr/bin/kubelet", "/usr/bin/kubeadm", "-w /etc/kubernetes ", "/var/lib/kubelet/config.yaml")),
    ):
        looks = "; ".join(f"grep -qF -- '{text}' audit || echo 'not watched: {text}'" for text in found)
        yield _rule(id, f"audited: {', '.join(text.strip() for text in found)}", looks, "")


REST = (
    _rule(
        "Docker 1.1.2",
        "the container engine's socket is root's, and nobody is in root's group",
        "stat -c '%a %U:%G' /run/containerd/containerd.sock; awk -F: '$3 == 0 {print \"members:\" $4}' /etc/group",
        "6[06]0 root:root\nmembers:",
    ),
    _rule(
        "1.1.2.1.1", "temporary files have a file system of their own", f"findmnt -n -o TARGET {TEMPORARY}", TEMPORARY
    ),
    _rule(
        "1.1.2.1.2",
        "temporary files: nodev, nosuid",
        f"findmnt -n -o OPTIONS {TEMPORARY}",
        r"(?=.*\bnodev\b)(?=.*\bnosuid\b).*",
    ),
    _rule(
        "1.1.2.2.4",
        "shared memory: nodev, nosuid, noexec",
        "findmnt -n -o OPTIONS /dev/shm",
        r"(?=.*nodev)(?=.*nosuid)(?=.*noexec).*",
    ),
    _rule("1.3.1.1", "AppArmor is there", "command -v apparmor_parser", r"/\S+"),
    _rule("1.3.1.2", "AppArmor is on", "cat /sys/module/apparmor/parameters/enabled", "Y"),
    _rule(
        "1.5.3",
        "no core dumps",
        "sysctl -n fs.suid_dumpable kernel.core_pattern; grep -hE '^[*] +hard +core +0' /etc/security/limits.d/*",
        r"0\n\|/bin/false\n\* hard core 0",
    ),
    _rule(
        "1.5.4",
        "neither prelink, nor who reports errors elsewhere",
        INSTALLED.replace("{}", "prelink apport whoopsie"),
        "",
    ),
    _rule("1.6.2", "no version before a login", "grep -lE 'Debian|[\\][mrsv]' /etc/issue /etc/issue.net", ""),
    _rule(
        "2.1",
        "no server that nobody asked for",
        INSTALLED.replace("{}", SERVERS),
        "",
    ),
    _rule(
        "2.2",
        "no client of old services",
        INSTALLED.replace("{}", "nis rsh-client talk telnet inetutils-telnet ldap-utils ftp tnftp"),
        "",
    ),
    _rule(
        "2.3.1.1", "one keeps the time", "systemctl is-active systemd-timesyncd chrony ntpsec | grep -c ^active", "1"
    ),
    _rule("2.4.1.8", "no cron and no at", "command -v crontab; command -v at", ""),
    _rule("3.1.2", "no wireless", "ls -d /sys/class/net/*/wireless /sys/class/bluetooth/* 2> /dev/null", ""),
    _rule("5.2.2", "sudo: on a terminal of its own", "grep -cE '^Defaults\\s+use_pty' sudo", r"[1-9]\d*"),
    _rule("5.2.3", "sudo: writes down what it does", "grep -E '^Defaults\\s+logfile=' sudo", r'.*"/var/log/sudo.log"'),
    _rule(
        "5.2.6", "sudo: forgets soon", "grep -oE 'timestamp_timeout=-?[0-9]+' sudo", r"timestamp_timeout=([0-9]|1[0-5])"
    ),
    _rule("5.2.7", "su is for root", "grep -cE '^auth +required +pam_wheel.so use_uid group=' /etc/pam.d/su", "1"),
    _rule("5.4.1.4", "passwords would be hashed well", "grep -E '^ENCRYPT_METHOD' /etc/login.defs", r"\w+ +YESCRYPT"),
    _rule("5.4.2.1", "only root is root", "awk -F: '$3 == 0 {print $1}' /etc/passwd", "root"),
    _rule("5.4.2.2", "root's group is root's", "awk -F: '$4 == 0 {print $1}' /etc/passwd", "root"),
    _rule("5.4.2.3", "root's group has one name", "awk -F: '$3 == 0 {print $1}' /etc/group", "root"),
    _rule(
        "5.4.2.7",
        "accounts of the system log nowhere in",
        "awk -F: '$3 < 1000 && $1 !~ /^(root|sync)$/ && $7 !~ /(nologin|false)$/ {print $1}' /etc/passwd",
        "",
    ),
    _rule("5.4.3.1", "nologin is no shell", "grep nologin /etc/shells", ""),
    _rule("5.4.3.2", "a forgotten shell ends", "bash -lc 'echo $TMOUT; readonly -p | grep -c TMOUT'", "900\n1"),
    _rule(
        "5.4.3.3",
        "what is made is not everybody's",
        "grep -E ^UMASK /etc/login.defs; bash -lc umask",
        "UMASK +027\n0027",
    ),
    _rule("6.1.1.1", "the journal is written", "systemctl is-active systemd-journald", "active"),
    _rule("6.1.1.4", "and nothing beside it", "systemctl is-active rsyslog syslog-ng | grep ^active", ""),
    _rule("6.1.2.2", "the journal: not forwarded", "grep -E '^ForwardToSyslog=' journald | tail -n 1", ".*=no"),
    _rule("6.1.2.3", "the journal: compressed", "grep -E '^Compress=' journald | tail -n 1", ".*=yes"),
    _rule("6.1.2.4", "the journal: kept", "grep -E '^Storage=' journald | tail -n 1", ".*=persistent"),
    _rule("6.1.4.1", "logs that nobody else writes", "find /var/log -type f -perm /0022 ! -group utmp", ""),
    _rule(
        "6.2.1.2",
        "auditd runs, and is started",
        "systemctl is-active auditd; systemctl is-enabled auditd",
        "active\nenabled",
    ),
    _rule(
        "6.2.1.3",
        "what was before auditd is audited, now or from the next start on",
        "cat /proc/cmdline /boot/grub/grub.cfg 2> /dev/null | grep -ow audit=1 | head -n 1",
        "audit=1",
    ),
    _rule("6.2.1.4", "and kept until then", "grep -oE '^backlog_limit .*' state", r"backlog_limit (8192|\d{5,})"),
    _rule(
        "6.2.2.1",
        "the audit's log is bounded",
        "grep -E '^(max_log_file|num_logs) ' /etc/audit/auditd.conf",
        r".*\d\n.*\d",
    ),
    _rule(
        "6.2.2.4", "a full disk is told", "grep -E '^space_left_action' /etc/audit/auditd.conf", r"\w+ = (?i:syslog)"
    ),
    _rule("6.2.3.20", "nobody changes the audit's rules", "grep -x 'enabled 2' state", "enabled 2"),
    _rule("6.2.3.21", "the rules are those on disk", "cat drift", r".*No change(\n.*immutable mode.*)?"),
    _rule("6.2.4.1", "the audit's logs: modes", "find /var/log/audit -type f -perm /0137", ""),
    _rule("6.3.1", "AIDE has its base", f"test -x /usr/bin/aide && ls {BASE}", BASE),
    _rule("6.3.2", "AIDE looks every day", "systemctl is-active vre-integrity.timer", "active"),
    _rule(
        "6.3.3",
        "AIDE watches the audit's tools",
        "grep -cE '^/usr/sbin/(auditctl|auditd|ausearch|aureport|augenrules) ' " + BASE,
        "5",
    ),
    _rule(
        "7.1.11",
        "nothing that everybody may write",
        f"find / {OURS} ! -type l -perm -0002 ! -perm -1000 ! -type s ! -type c",
        "",
    ),
    _rule("7.1.12", "nothing that belongs to nobody", f"find / {OURS} \\( -nouser -o -nogroup \\)", ""),
    _rule("7.1.13", "one program gives rights", f"find / {OURS} -type f -perm /6000", "/usr/bin/sudo"),
    _rule("7.2.1", "passwords are not in passwd", "awk -F: '$2 != \"x\" {print $1}' /etc/passwd", ""),
    _rule("7.2.2", "no account has a password", "awk -F: '$2 !~ /^[!*]/ {print $1}' /etc/shadow", ""),
    _rule("7.2.5", "no number twice", "for each in passwd group; do cut -d: -f3 /etc/$each | sort | uniq -d; done", ""),
    _rule("7.2.7", "no name twice", "for each in passwd group; do cut -d: -f1 /etc/$each | sort | uniq -d; done", ""),
    _rule("7.2.9", "homes are their owners'", "find /home -mindepth 1 -maxdepth 1 -perm /0027", ""),
)


def rules() -> tuple[Rule, ...]:
    """Return every rule, by its number."""
    every: Iterable[Rule] = (*_modules(), *_kernel(), *_ssh(), *_modes(), *_audit(), *REST)
    return tuple(sorted(every, key=lambda rule: order(rule.id)))


def order(id: str) -> tuple[str, list[int]]:
    """Return what sorts a rule's number as a person would: 3.3.10 after 3.3.9. Pure."""
    words, _, numbers = id.rpartition(" ")
    return words, [int(number) for number in numbers.split(".") if number.isdigit()]
