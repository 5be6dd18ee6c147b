"""The moment of Debian's archive that was tested: announced only after a test, taken only when signed and newer."""

import contextlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tested
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.unit import releases
from tests.unit.releases import KEY, STRANGER
from vre.artifacts import debian
from vre.cli.main import app
from vre.errors import Refused, VreError
from vre.packages import announcement, repository
from vre.release import envelope

MOMENT, OLDER, NEWER = "20261120T000000Z", "20261119T000000Z", "20261121T000000Z"
WHEN = datetime(2026, 11, 21, 4, 10, tzinfo=UTC)
ARCHIVE = "https://old.example.org/archive/{archive}/{moment}/"
TIMES = st.datetimes(datetime(1993, 8, 16), datetime(2400, 1, 1), timezones=st.just(UTC))


# what is announced


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    repository.ensure_key(made)
    return made


@pytest.fixture
def target(tmp_path: Path, home: Path) -> Path:
    """A repository of which only its key matters here."""
    made = tmp_path / "repository"
    made.mkdir()
    (made / repository.KEY).write_bytes((home / repository.KEY).read_bytes())
    return made


def release(folder: Path, moment: str = MOMENT, **result: Any) -> Path:
    made = releases.release(folder / (moment or "none"), moment=moment)
    releases.test_result(made, **result)
    return made


def announce(made: Path, target: Path, home: Path) -> str:
    return announcement.announce(made, target, home, [KEY.public_key])


def said_by(home: Path, *words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True, env={"GNUPGHOME": str(home), "PATH": "/usr/bin:/bin"})


@pytest.mark.requirement("P-35")
def test_the_moment_of_a_tested_release_is_announced_with_the_repositorys_key(
    tmp_path: Path, target: Path, home: Path
) -> None:
    assert announce(release(tmp_path), target, home) == MOMENT
    file = target / announcement.NAME
    assert announcement.announced(file.read_text()) == MOMENT
    ring, said = tmp_path / "ring.gpg", tmp_path / "said"
    said_by(tmp_path, "gpg", "--dearmor", "--output", ring, home / repository.KEY)
    said_by(tmp_path, "gpgv", "--keyring", ring, "--output", said, file)
    assert tested.parse(said.read_text()).moment == MOMENT
    assert sorted(path.name for path in target.iterdir()) == [announcement.NAME, repository.KEY]


@pytest.mark.requirement("P-35")
def test_a_moment_that_was_not_tested_cannot_be_announced(tmp_path: Path, target: Path, home: Path) -> None:
    untested = releases.release(tmp_path / "untested", moment=MOMENT)
    for made, reason in (
        (untested, "was not tested"),
        (release(tmp_path / "a", failed=("units",)), "did not pass"),
        (release(tmp_path / "b", passed=("units",)), "without a launch"),
        (release(tmp_path / "c", ""), "not made from one moment"),
    ):
        with pytest.raises(VreError, match=reason):
            announce(made, target, home)
    with pytest.raises(Refused):
        announce(release(tmp_path / "d", key=STRANGER), target, home)
    altered = release(tmp_path / "e")
    manifest = altered / "manifest.json"
    manifest.write_text(manifest.read_text().replace(MOMENT, NEWER))
    with pytest.raises(Refused):
        announce(altered, target, home)
    assert not (target / announcement.NAME).exists()


def test_an_older_moment_and_another_repository_are_refused(tmp_path: Path, target: Path, home: Path) -> None:
    announce(release(tmp_path), target, home)
    before = (target / announcement.NAME).read_text()
    with pytest.raises(VreError, match="announced already"):
        announce(release(tmp_path, OLDER), target, home)
    with pytest.raises(VreError, match="is no repository"):
        announce(release(tmp_path, NEWER), tmp_path / "nowhere", home)
    (target / repository.KEY).write_text("another")
    with pytest.raises(VreError, match="another key"):
        announce(tmp_path / NEWER / releases.ID, target, home)
    assert (target / announcement.NAME).read_text() == before


def test_the_command_announces_and_builds_nothing(
    tmp_path: Path, target: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(envelope, "trusted", lambda *_: [KEY.public_key])
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "packages").symlink_to(home)
    done = CliRunner().invoke(app, ["packages", "--to", str(target), "--tested", str(release(tmp_path))])
    assert done.exit_code == 0, done.output
    assert MOMENT in done.stdout
    assert not list(target.glob("*.deb"))


# which moment a release is made from


@pytest.mark.parametrize(
    ("mirror", "moment", "address"),
    [
        ("https://a.example/{archive}/20261120T000000Z/", MOMENT, "https://a.example/debian-security/20261120T000000Z"),
        ("https://a.example/debian", "", "https://a.example/debian-security"),
        ("https://a.example/{archive}", "", "https://a.example/debian-security"),
    ],
)
def test_a_mirror_may_name_a_moment(mirror: str, moment: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_DEBIAN_MIRROR", mirror)
    assert debian.moment() == moment
    lines = debian.sources("trixie")
    assert lines[-1].endswith(f" {address} trixie-security main")
    assert ["check-valid-until=no" in line for line in lines] == [bool(moment)] * 3


@pytest.mark.parametrize("moment", ["29990101T000000Z", "20261399T000000Z"])
def test_a_moment_that_has_not_passed_is_none(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_DEBIAN_MIRROR", f"https://a.example/{{archive}}/{moment}")
    with pytest.raises(VreError, match=f"{moment} is no moment that has passed"):
        debian.moment()


def test_machines_of_an_image_made_from_a_moment_do_not_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_DEBIAN_MIRROR", f"https://a.example/{{archive}}/{MOMENT}")
    monkeypatch.setenv("VRE_DEBIAN_NEWEST", "https://mirror.example.org/{archive}/")
    kept = debian.deb822("\n\n".join(debian.sources("trixie")) + "\n")
    addresses = [line for line in kept.splitlines() if line.startswith(("URIs", "Suites"))]
    assert addresses == [
        "URIs: https://mirror.example.org/debian", "Suites: trixie",
        "URIs: https://mirror.example.org/debian", "Suites: trixie-updates",
        "URIs: https://mirror.example.org/debian-security", "Suites: trixie-security",
    ]  # fmt: skip


# what a machine reads


@given(TIMES, TIMES)
def test_what_is_announced_is_what_is_read(moment: datetime, at: datetime) -> None:
    name = f"{moment:%Y%m%dT%H%M%SZ}"
    assert tested.parse(announcement.statement(name, at)) == tested.Statement(
        moment=name, announced=f"{at:%Y-%m-%dT%H:%M:%SZ}"
    )


@given(st.one_of(st.text(), st.tuples(st.text(), st.text()).map(lambda p: f"{p[0]}Moment: {MOMENT}{p[1]}")))
def test_any_other_text_is_refused_and_never_half_read(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        tested.parse(text)


@given(st.integers(0, 53), st.characters())
def test_one_other_character_never_leads_to_another_place(place: int, other: str) -> None:
    right = announcement.statement(MOMENT, WHEN)
    with contextlib.suppress(ValueError):
        read = tested.parse(right[:place] + other + right[place + 1 :])
        assert set(read.moment + read.announced) <= set("0123456789TZ:-")


@pytest.mark.parametrize(
    "text",
    [
        "Origin: vre\nLabel: vre\n",
        "",
        f"Moment: {MOMENT}\n",
        "Moment: 20261399T000000Z\nAnnounced: 2026-11-21T04:10:00Z\n",
    ],
)
def test_what_the_same_key_signed_for_another_purpose_is_no_statement(text: str) -> None:
    with pytest.raises(ValueError, match=r"moment|time data"):
        tested.parse(text)


FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> {root}/log
case "$(basename "$0") $*" in
*download-file*) for place; do :; done; cp {root}/served "$place" ;;
sqv*)
    cat {root}/served > {root}/run/vre/tested
    [ ! -e {root}/bad ] || {{ echo "Message has been manipulated"; exit 1; }} ;;
esac
"""


class Machine:
    """A folder that stands for a machine; what is fetched is the file `served`, signed unless there is a file `bad`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.places = root, tested.Places(root=root)
        self.write("etc/os-release", 'NAME="Debian GNU/Linux"\nVERSION_CODENAME=trixie\n')
        self.write("etc/apt/sources.list.d/debian.sources", "Debian's own\n")
        self.want(**{"from": "tested"})
        for name in ("apt-helper", "sqv"):
            self.write(f"bin/{name}", FAKE.format(root=root))
            (root / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{root}/bin:/usr/bin:/bin")
        monkeypatch.setattr(tested, "FETCH", ("apt-helper", "download-file"))

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def want(self, **wanted: str) -> None:
        told = {"repository": "https://packages.example.org/vre", "archive": ARCHIVE, **wanted}
        self.write("etc/vre/archive.json", json.dumps(told))

    def serve(self, moment: str) -> None:
        self.write("served", announcement.statement(moment, WHEN))

    @property
    def apt(self) -> dict[str, str]:
        """What apt would read."""
        return {path.name: path.read_text() for path in (self.root / "etc/apt/sources.list.d").glob("*.sources")}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.requirement("P-35")
def test_a_moment_is_taken_and_nothing_of_debian_beside_it(machine: Machine) -> None:
    machine.serve(MOMENT)
    assert tested.main(machine.root) == 0
    assert list(machine.apt) == ["debian-tested.sources"]
    told = machine.apt["debian-tested.sources"]
    assert [line for line in told.splitlines() if line.startswith(("URIs", "Suites"))] == [
        f"URIs: https://old.example.org/archive/debian/{MOMENT}/", "Suites: trixie trixie-updates",
        f"URIs: https://old.example.org/archive/debian-security/{MOMENT}/", "Suites: trixie-security",
    ]  # fmt: skip
    assert told.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg") == 2
    kept = json.loads(machine.places.taken.read_text())
    assert (kept["moment"], kept["announced"]) == (MOMENT, "2026-11-21T04:10:00Z")
    assert "https://packages.example.org/vre/tested" in (machine.root / "log").read_text()


def test_a_newer_moment_replaces_it_and_the_same_one_changes_nothing(machine: Machine) -> None:
    machine.serve(MOMENT)
    tested.main(machine.root)
    before = (machine.places.taken.stat().st_ino, machine.places.sources.stat().st_ino)
    tested.main(machine.root)
    assert (machine.places.taken.stat().st_ino, machine.places.sources.stat().st_ino) == before
    machine.serve(NEWER)
    tested.main(machine.root)
    assert NEWER in machine.apt["debian-tested.sources"]
    assert MOMENT not in machine.apt["debian-tested.sources"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda machine: machine.serve(OLDER), "takes the machine back"),
        (lambda machine: (machine.serve(NEWER), machine.write("bad", "")), "manipulated"),
        (lambda machine: machine.write("served", "Origin: vre\n"), "is no statement"),
        (lambda machine: machine.write("served", "x" * tested.LARGEST * 2), "more than"),
        (lambda machine: (machine.root / "served").unlink(), "exit code"),
    ],
)
def test_what_is_not_trusted_changes_nothing(
    machine: Machine, wrong: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.serve(MOMENT)
    tested.main(machine.root)
    before = (machine.apt, machine.places.taken.read_text())
    wrong(machine)
    assert tested.main(machine.root) == 1
    assert reason in capsys.readouterr().err
    assert (machine.apt, machine.places.taken.read_text()) == before


def test_without_a_statement_a_machine_that_never_had_one_stays_as_it_is(machine: Machine) -> None:
    assert tested.main(machine.root) == 1
    assert machine.apt == {"debian.sources": "Debian's own\n"}


def test_debians_own_sources_come_back_when_the_newest_is_wanted(machine: Machine) -> None:
    machine.serve(MOMENT)
    tested.main(machine.root)
    machine.want(**{"from": "newest"})
    for _ in range(2):
        assert tested.main(machine.root) == 0
        assert machine.apt == {"debian.sources": "Debian's own\n"}
    assert not machine.places.taken.exists()


def test_a_machine_that_was_told_nothing_is_left_alone(machine: Machine) -> None:
    machine.places.settings.unlink()
    assert tested.main(machine.root) == 0
    assert machine.apt == {"debian.sources": "Debian's own\n"}
    assert not (machine.root / "log").exists()


def test_what_breaks_off_in_the_middle_is_brought_to_its_end_by_the_next(machine: Machine) -> None:
    machine.serve(MOMENT)
    machine.places.newest.replace(machine.places.aside)
    assert tested.main(machine.root) == 0
    assert list(machine.apt) == ["debian-tested.sources"]
