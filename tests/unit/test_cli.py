"""The `vre` command: what it prints, how it ends, and what it hands to others."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vre import engine, preflight, stackfile
from vre.cli import launch, main, outputs, parts, preparation, reach, trust
from vre.cli.checks import as_json, bad, good, looked, warning, well
from vre.cli.main import app
from vre.cli.outputs import Node, Outputs
from vre.errors import VreError
from vre.preflight import Need
from vre.setup import hypervisor

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
FOUND: dict[str, Any] = {
    "url": "https://192.168.77.10/",
    "services": {"jupyter": "https://192.168.77.10/jupyter/"},
    "user": "researcher",
    "password": "correct horse",
    "passwords": {"bob": "battery staple"},
    "authority": "-----BEGIN CERTIFICATE-----\n",
    "machines": [
        {"name": "local-control", "role": "control", "addresses": ["192.168.77.10", "fd76::a"], "hostKey": KEY},
        {"name": "local-worker-1", "role": "worker", "addresses": ["192.168.77.20"], "hostKey": KEY},
    ],
}
runner = CliRunner()


@pytest.fixture(autouse=True)
def active(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is active: our command is on PATH."""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.fixture
def there() -> Outputs:
    return outputs.read("local", FOUND, identity="/keys/id")


@pytest.fixture
def stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of stack files, and a state folder, of the test's own."""
    monkeypatch.setattr(stackfile, "path", lambda stack: tmp_path / f"Pulumi.{stack}.yaml")
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    (tmp_path / "Pulumi.local.yaml").write_text(
        f"config:\n  vre:cloud: {{provider: libvirt}}\n  vre:access: {{keys: [{KEY} alice]}}\n"
    )
    yield tmp_path


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the whole command line; return exit code, standard output and standard error."""
    monkeypatch.setattr("sys.argv", ["vre", *words])
    with pytest.raises(SystemExit) as told:
        main.run()
    captured = capsys.readouterr()
    code = told.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_begins_with_a_verb(name: str) -> None:
    done = runner.invoke(app, [name, "--help"])
    [callback] = [each.callback for each in app.registered_commands if each.callback and each.callback.__name__ == name]
    about = (callback.__doc__ or "").strip()
    assert done.exit_code == 0
    assert len(about) <= 60
    assert not about.endswith(".")
    assert about[0].isupper()


def test_an_error_is_told_in_two_lines_and_ends_with_one(
    stacks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(monkeypatch, capsys, "policy", "-s", "nowhere")
    assert (code, out) == (1, "")
    assert err == "error: no such stack file: Pulumi.nowhere.yaml\n  there are stacks: local\n"


def test_a_fault_in_the_stack_file_is_no_traceback(
    stacks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stacks / "Pulumi.local.yaml").write_text("config:\n  vre:cloud: {provider: libvirt}\n  vre:acess: {}\n")
    code, _, err = ended(monkeypatch, capsys, "up")
    assert code == 1
    assert "did you mean access?" in err
    assert "vre:access: missing" in err
    assert "Traceback" not in err


def test_wrong_use_ends_with_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, capsys, "explode")[0] == 2
    assert ended(monkeypatch, capsys, "hypervisor", "explode")[0] == 2


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(stack: str) -> Outputs:
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "of", interrupted)
    assert ended(monkeypatch, capsys, "password")[0] == 130


def test_password_prints_the_password_alone(there: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "of", lambda stack: there)
    assert runner.invoke(app, ["password"]).output == "correct horse\n"
    assert runner.invoke(app, ["password", "bob"]).output == "battery staple\n"
    assert isinstance(runner.invoke(app, ["password", "carol"]).exception, VreError)
    assert runner.invoke(app, ["authority"]).output == FOUND["authority"]


def test_check_tells_everything_at_once_and_ends_with_one(stacks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stacks / "Pulumi.local.yaml").write_text("config:\n  vre:cloud: {provider: libvirt, mode: open}\n  vre:x: 1\n")
    done = runner.invoke(app, ["check", "--json"])
    told = json.loads(done.output)
    assert done.exit_code == 1
    assert told["ok"] is False
    found = [each["name"] for each in told["checks"] if each["area"] == "stack file"]
    assert found == ["vre:access", "vre:cloud.mode", "vre:x"]
    assert "memory" in {each["name"] for each in told["checks"]}


def test_a_cloud_whose_packages_are_missing_says_how_to_get_them(
    stacks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stacks / "Pulumi.aws.yaml").write_text(
        "config:\n  vre:cloud: {provider: aws, region: eu-west-1}\n"
        f"  vre:access: {{keys: [{KEY} alice], operators: [203.0.113.0/24]}}\n"
        "  vre:edge: {provider: direct, domain: example.org}\n"
    )
    monkeypatch.setitem(sys.modules, "pulumi_aws", None)
    monkeypatch.delitem(sys.modules, "vre.clouds.aws", raising=False)
    code, _, err = ended(monkeypatch, capsys, "policy", "-s", "aws")
    missing = "error: the Python packages for aws are not installed (pulumi_aws)\n"
    assert (code, err) == (1, f"{missing}  install them: vre setup aws-packages\n")


def test_policy_speaks_json(stacks: Path) -> None:
    rows = json.loads(runner.invoke(app, ["policy", "--json"]).output)
    assert {"way": "in", "ports": "tcp 22"}.items() <= rows[0].items()
    assert all(row["why"] for row in rows)


def test_a_stack_that_is_not_launched_says_how() -> None:
    with pytest.raises(VreError, match="stack local is not launched\n") as told:
        outputs.read("local", {}, identity="")
    assert told.value.hint == "launch it: make up"
    with pytest.raises(VreError, match="not launched to its end") as half:
        outputs.read("aws", {"url": "x"}, identity="")
    assert half.value.hint == "launch it: vre up -s aws"


@pytest.mark.parametrize(
    ("words", "machine", "command"),
    [
        ([], "local-control", []),
        (["worker-1"], "local-worker-1", []),
        (["local-worker-1", "--", "uptime"], "local-worker-1", ["uptime"]),
        (["--", "uptime", "-p"], "local-control", ["uptime", "-p"]),
        (["uptime", "-p"], "local-control", ["uptime", "-p"]),
        (["uptime -p; df -h"], "local-control", ["uptime -p; df -h"]),
        (["control", "echo", "--", "x"], "local-control", ["echo", "x"]),
        (["--", "echo", "--", "x"], "local-control", ["echo", "--", "x"]),
    ],
)
def test_the_first_word_may_name_a_machine(there: Outputs, words: list[str], machine: str, command: list[str]) -> None:
    node, rest = reach.chosen(there, words)
    assert (node.name, rest) == (machine, command)


def test_a_machine_that_is_not_there_is_named_with_those_that_are(there: Outputs) -> None:
    with pytest.raises(VreError, match="no machine is called worker-9") as told:
        reach.chosen(there, ["worker-9"])
    assert "local-worker-1" in told.value.hint


def test_ssh_trusts_the_pinned_host_keys_and_no_others(there: Outputs, stacks: Path) -> None:
    words = reach.openssh(there, there.machine(), ["echo", "a b; c"])
    known = stacks / "state" / "known_hosts.local"
    assert words[0] == "ssh"
    assert words[1:3] == ["-F", "none"]
    assert {"StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null"} <= set(words)
    assert words[-2:] == ["vre@192.168.77.10", "echo 'a b; c'"]
    assert words[words.index("-i") + 1] == "/keys/id"
    assert known.read_text() == f"192.168.77.10 {KEY}\nfd76::a {KEY}\n192.168.77.20 {KEY}\n"


def test_a_single_word_is_a_line_for_the_machines_shell(there: Outputs) -> None:
    assert reach.openssh(there, there.machine(), ["echo a; df -h | tail -1"])[-1] == "echo a; df -h | tail -1"


def test_kubectl_hands_every_word_on(there: Outputs, stacks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(outputs, "machines", lambda stack: there)
    monkeypatch.setattr(reach, "become", became.append)
    done = runner.invoke(app, ["kubectl", "get", "pods", "-A", "-o", "jsonpath={.items[*]}"])
    assert done.exit_code == 0
    assert became[0][-1] == (
        "sudo kubectl --kubeconfig /etc/kubernetes/admin.conf get pods -A -o 'jsonpath={.items[*]}'"
    )


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["--", "a-tool"], ["vre@192.168.77.10", "a-tool"]),
        (["-s", "local", "--", "worker-1", "-x"], ["vre@192.168.77.10", "worker-1 -x"]),
        (["worker-1", "echo", "--", "x"], ["vre@192.168.77.20", "echo x"]),
        (["--", "echo", "--", "x"], ["vre@192.168.77.10", "echo -- x"]),
    ],
)
def test_after_two_hyphens_no_word_names_a_machine(
    there: Outputs, monkeypatch: pytest.MonkeyPatch, words: list[str], last: list[str]
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(outputs, "machines", lambda stack: there)
    monkeypatch.setattr(reach, "become", became.append)
    done = runner.invoke(app, ["ssh", *words])
    assert done.exit_code == 0, done.output
    assert became[0][-2:] == last


def test_half_launched_machines_are_reached_with_the_keys_in_the_state(
    stacks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [{"type": "vre:crypto:HostKey", "outputs": {"publicKey": KEY}}, {"type": "other"}]
    monkeypatch.setattr(engine, "outputs", lambda stack: {})
    monkeypatch.setattr(engine, "resources", lambda stack: kept)
    found = outputs.machines("local")
    assert found.machine() == Node(name="local-control", role="control", addresses=("192.168.77.10",), host_keys=(KEY,))
    monkeypatch.setattr(engine, "resources", lambda stack: [])
    with pytest.raises(VreError, match="is not launched"):
        outputs.machines("local")


@pytest.mark.requirement("H-12")
def test_logs_of_the_last_launch(stacks: Path) -> None:
    with pytest.raises(VreError, match="was not launched from here"):
        reach.launch_log("local")
    folder = stacks / "state" / "logs"
    folder.mkdir(parents=True)
    (folder / "local-20261121T090000Z-destroy.log").write_text("gone")
    (folder / "local-b-20261122T080000Z-up.log").write_text("another stack")
    with pytest.raises(VreError, match="was not launched from here"):
        reach.launch_log("local")
    for day, text in ((22, "new"), (21, "old")):
        (folder / f"local-202611{day}T070000Z-up.log").write_text(text)
    assert reach.launch_log("local").endswith("\nnew")


def test_a_console_log_that_lies_elsewhere_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    domain = {"type": "vre:libvirt:Domain", "inputs": {"name": "vre-local-control", "console": str(log)}}
    monkeypatch.setattr(engine, "resources", lambda stack: [domain])
    with pytest.raises(VreError, match="cannot be read here"):
        reach.console_log("local", "control")
    log.write_text("Booting")
    worker = {"type": domain["type"], "inputs": {"name": "vre-local-worker-2", "console": "/elsewhere"}}
    monkeypatch.setattr(engine, "resources", lambda stack: [worker, domain])
    assert reach.console_log("local", "").endswith("Booting")
    with pytest.raises(VreError, match="no such machine"):
        reach.console_log("local", "worker-1")


def test_a_console_log_of_the_own_hypervisor_is_read_in_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    console, log = "/var/lib/libvirt/images/vre-x/x-console.log", "hypervisor/lib/images/vre-x/x-console.log"
    inputs = {"name": "vre-x", "console": console, "uri": hypervisor.status(tmp_path).uri}
    monkeypatch.setattr(engine, "resources", lambda stack: [{"type": "vre:libvirt:Domain", "inputs": inputs}])
    (tmp_path / log).parent.mkdir(parents=True)
    (tmp_path / log).write_text("Booting")
    assert reach.console_log("x", "") == f"{tmp_path / log}\nBooting"


@pytest.mark.requirement("H-12")
def test_logs_of_an_unknown_pod_name_those_that_are(
    there: Outputs, stacks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "run", lambda words, **_: "jupyter hub-abc\ningress traefik-x\n")
    assert reach.pods(there, "hub") == [("jupyter", "hub-abc")]
    with pytest.raises(VreError, match="no pod's name begins with galaxy") as told:
        reach.pods(there, "galaxy")
    assert "hub-abc, traefik-x" in told.value.hint


def test_a_launch_goes_its_way_and_ends_with_what_one_needs_to_log_in(
    stacks: Path, there: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    way: list[str] = []

    def noted(where: Any, name: str, answer: Any = None) -> None:
        def note(*words: Any, **more: Any) -> Any:
            way.append(" ".join([name, *(f"{key}={value}" for key, value in more.items())]))
            return answer

        monkeypatch.setattr(where, name, note)

    for where, name in ((preparation, "announce"), (preparation, "require"), (parts, "ensure"), (launch, "change")):
        noted(where, name)
    noted(launch, "ask_before_a_loss")
    for name in ("ensure_stack", "recover"):
        noted(engine, name)
    noted(outputs, "of", there)
    done = runner.invoke(app, ["up"])
    assert done.exit_code == 0, done.output
    assert way == [
        "require prepared=False", "announce launching=True", "ensure", "require", "ensure_stack", "recover",
        "ask_before_a_loss", "change", "of",
    ]  # fmt: skip
    for line in (
        "Stack local is ready (",
        "  address    https://192.168.77.10/",
        "  jupyter    https://192.168.77.10/jupyter/",
        "  user       researcher",
        "  password   vre password -s local",
    ):
        assert line in done.output
    assert "correct horse" not in done.output


@pytest.mark.parametrize(("found", "code"), [(good("a", "b", "c"), 0), (bad("a", "b", "c"), 1)])
@pytest.mark.parametrize("command", ["status", "audit"])
def test_a_look_ends_with_one_when_something_is_bad(
    stacks: Path, there: Outputs, monkeypatch: pytest.MonkeyPatch, command: str, found: Any, code: int
) -> None:
    for each in ("of", "machines"):
        monkeypatch.setattr(outputs, each, lambda stack: there)
    monkeypatch.setattr(f"vre.cli.{command}.look", lambda *words: [found])
    told = runner.invoke(app, [command, "--json"])
    assert told.exit_code == code
    assert json.loads(told.output)["ok"] is (code == 0)
    table = runner.invoke(app, [command])
    assert table.exit_code == code
    assert "b" in table.output


def test_down_destroys_nothing_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[str] = []
    monkeypatch.setattr(engine, "exists", lambda stack: True)
    monkeypatch.setattr(engine, "resources", lambda stack: [])
    monkeypatch.setattr(launch, "change", lambda action, stack: changed.append(action))
    done = runner.invoke(app, ["down"])
    assert isinstance(done.exception, VreError)
    assert done.exception.message == "nothing was destroyed: nobody is here to confirm"
    assert done.exception.hint == "vre down -s local --yes"
    assert changed == []


def test_down_of_what_is_not_there_is_well_and_tidies(stacks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[bool] = []
    monkeypatch.setattr(engine, "exists", lambda stack: False)
    monkeypatch.setattr(parts, "tidy", lambda: tidied.append(True))
    known = reach.known_hosts_file("local")
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text("192.0.2.1 ssh-ed25519 AAAA")
    done = runner.invoke(app, ["down"])
    assert (done.exit_code, done.output) == (0, "stack local is not launched\n")
    assert tidied == [True]
    assert not known.exists()


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_failed_launch_says_what_failed_and_what_to_type(
    stacks: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    urn = "urn:pulumi:local::vre::vre:machine:Machine::local-control"

    def failing(action: str, stack: str, take: Any, log: Path, *flags: str) -> int:
        take({"diagnosticEvent": {"urn": urn, "severity": "error", "message": "cloud-init failed\n  vre logs boot"}})
        take({"diagnosticEvent": {"severity": "error", "message": "update failed"}})
        return 130 if interrupted else 255

    monkeypatch.setattr(engine, "change", failing)
    if interrupted:
        with pytest.raises(typer.Exit) as left:
            launch.change("up", "local")
        assert left.value.exit_code == 130
        return
    with pytest.raises(VreError) as told:
        launch.change("up", "local")
    assert told.value.message == "up of stack local failed\n  Machine local-control: cloud-init failed\n  vre logs boot"
    assert told.value.hint.startswith("go on from here: make up   what happened: vre logs -s local")


def test_what_a_launch_takes_is_said_first() -> None:
    wanted = Need(memory=3472, disk=15)
    told = preparation.announcement("local", ["programs", "image"], wanted, launching=True, kvm=False, cpus=2)
    assert "build programs, image (once, then cached) and launch stack local: about 18 minutes" in told
    assert "no KVM" in told
    assert "3.4 GiB of memory and up to 15 GiB of disk" in told
    quick = preparation.announcement("local", [], wanted, launching=True, kvm=True, cpus=2)
    assert "This will launch stack local: about 2 minutes" in quick


def test_where_kvm_cannot_be_tried_yet_both_times_are_told() -> None:
    wanted, every = Need(memory=3472, disk=15), ["engine", "programs", "image"]
    told = preparation.announcement("local", every, wanted, launching=True, kvm=None, cpus=2)
    both = "about 18 minutes on this machine with KVM, 21 without"
    assert f"{both} (2 processors; whether KVM works is tried once QEMU is installed).\n" in told
    alone = preparation.announcement("local", every, wanted, launching=False, kvm=None, cpus=2)
    assert "about 16 minutes on this machine (2 processors; whether KVM works is tried" in alone


def test_what_a_launch_takes_of_another_machine_is_said_with_its_name() -> None:
    wanted = Need(memory=3472, disk=15)
    told = preparation.announcement("lab", [], wanted, launching=True, kvm=True, cpus=2, host="big.example")
    assert "2 minutes on this machine (2 processors, KVM on big.example)" in told
    assert told.endswith("3.4 GiB of memory and up to 15 GiB of disk on big.example.\n")
    unasked = preparation.announcement("lab", [], wanted, launching=True, kvm=None, cpus=2, host="big.example")
    assert "whether KVM works on big.example is asked once libvirt answers" in unasked


def test_a_part_of_set_up_that_is_none_is_refused() -> None:
    with pytest.raises(VreError, match="no part engin") as told:
        parts.ensure(["engin"])
    assert "packages, binding, engine" in told.value.hint


def test_parts_run_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    made = tuple(
        parts.Part(name=name, title=name, ensure=lambda report, name=name: done.append(name))  # type: ignore[misc]
        for name in ("a", "b", "c")
    )
    monkeypatch.setattr(parts, "PARTS", made)
    parts.ensure()
    parts.ensure(["c", "a"])
    assert done == ["a", "b", "c", "a", "c"]


def test_checks_are_well_while_none_is_bad() -> None:
    fine = [good("a", "b", "c"), warning("a", "b", "c")]
    assert well(fine)
    assert not well([*fine, bad("a", "b", "c", "d")])
    assert json.loads(as_json([bad("a", "b", "c", "d")])) == {
        "ok": False,
        "checks": [{"area": "a", "name": "b", "state": "bad", "found": "c", "hint": "d"}],
    }


def test_a_fault_while_looking_is_a_finding() -> None:
    def faulty() -> Iterator[Any]:
        raise VreError("no SSH", hint="vre logs console")
        yield

    def odd() -> Iterator[Any]:
        yield json.loads("{")

    assert looked("cluster", "API", odd)[0].found.startswith("the answer cannot be read: JSONDecodeError")

    assert looked("machines", "local-control", faulty) == [
        bad("machines", "local-control", "no SSH", "vre logs console")
    ]


def test_the_authority_is_installed_and_removed(stacks: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def fake(words: list[Any], **_: Any) -> str:
        ran.append([str(word) for word in words])
        return "vre-local  C,,\n"

    home, system = tmp_path / "home", tmp_path / "system"
    (home / ".pki" / "nssdb").mkdir(parents=True)
    (home / ".pki" / "nssdb" / "cert9.db").touch()
    system.mkdir()
    monkeypatch.setattr(trust, "run", fake)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    done = trust.install("local", "PEM\n", system=system, home=home)
    assert len(done) == 2
    assert ["update-ca-certificates"] in ran
    assert (stacks / "state" / "authority-local.crt").read_text() == "PEM\n"
    assert trust.remove("local", system=system, home=home) == [f"browser store {home}/.pki/nssdb: removed"]
    assert ran[-1][:2] == ["certutil", "-D"]


def test_memory_of_the_default_stack_stays_below_four_gibibytes() -> None:
    from vre.load import load
    from vre.paths import project
    from vre.plan import plan
    from vre.stackfile import read

    wanted = preflight.need(plan(load(read(project() / "stacks" / "Pulumi.local.yaml"))))
    assert wanted.memory <= 4096
    assert wanted.disk <= 15
