"""What the daily upgrade decides: windows, packages, reboots, turns."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import patching
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre import fields

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
CLOCKS = st.tuples(st.integers(0, 23), st.integers(0, 59))
NOW = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)


def words(first: tuple[int, int], last: tuple[int, int]) -> str:
    return f"{first[0]:02}:{first[1]:02}-{last[0]:02}:{last[1]:02}"


# windows


@given(CLOCKS, CLOCKS, st.sampled_from(ZONES), MOMENTS)
def test_a_window_is_open_for_its_length_every_day_and_also_over_midnight_and_changes_of_clocks(
    first: tuple[int, int], last: tuple[int, int], zone: str, now: datetime
) -> None:
    if first == last:
        return
    when = patching.window(words(first, last), zone)
    begin, end = patching.opening(when, now)
    assert end - begin == timedelta(minutes=(last[0] * 60 + last[1] - first[0] * 60 - first[1]) % 1440)
    assert now < end
    assert patching.is_open(when, now) == (begin <= now)
    assert begin - now < timedelta(hours=25, minutes=30) + timedelta(days=zone == "Pacific/Apia")
    local = begin.astimezone(ZoneInfo(zone))
    skipped = local.replace(fold=0).utcoffset() != (local - timedelta(hours=3)).utcoffset()
    assert skipped or (local.hour, local.minute) == first


@given(CLOCKS, CLOCKS, st.sampled_from(ZONES), MOMENTS)
def test_no_earlier_window_was_missed(first: tuple[int, int], last: tuple[int, int], zone: str, now: datetime) -> None:
    if first == last:
        return
    when = patching.window(words(first, last), zone)
    begin, _ = patching.opening(when, now)
    _, before = patching.opening(when, begin - timedelta(hours=30))
    assert before <= now or before > begin


@pytest.mark.parametrize(
    ("text", "zone", "at", "begin", "hours"),
    [
        ("02:00-05:00", "UTC", "2026-11-21T03:00+00:00", "2026-11-21T02:00+00:00", 3),
        ("02:00-05:00", "UTC", "2026-11-21T05:00+00:00", "2026-11-22T02:00+00:00", 3),
        ("22:00-04:00", "UTC", "2026-11-21T01:00+00:00", "2026-11-20T22:00+00:00", 6),
        ("00:00-24:00", "UTC", "2026-11-21T23:59+00:00", "2026-11-21T00:00+00:00", 24),
        ("02:00-05:00", "Europe/Berlin", "2026-11-21T00:30+00:00", "2026-11-21T01:00+00:00", 3),
        # The clock goes from 2 to 3 there: what would begin at half past two does so half an hour after two.
        ("02:30-05:00", "Europe/Berlin", "2026-03-29T00:00+00:00", "2026-03-29T01:30+00:00", 2.5),
        # It is two o'clock twice: the first one counts.
        ("02:00-05:00", "Europe/Berlin", "2026-10-25T00:30+00:00", "2026-10-25T00:00+00:00", 3),
    ],
)
def test_windows_by_the_clock(text: str, zone: str, at: str, begin: str, hours: float) -> None:
    opens = datetime.fromisoformat(begin)
    assert patching.opening(patching.window(text, zone), datetime.fromisoformat(at)) == (
        opens,
        opens + timedelta(hours=hours),
    )


@pytest.mark.parametrize("text", ["", "2-5", "02:00", "25:00-03:00", "02:00-24:30", "02:60-03:00", "03:00-03:00", "x"])
def test_what_is_no_window_is_refused_on_the_machine_and_in_the_stack_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|begins"):
        patching.window(text)
    with pytest.raises(ValueError, match=r"window|begins"):
        fields.window(text)


@given(st.one_of(st.text("0123456789:-", max_size=11), st.builds(words, CLOCKS, CLOCKS)))
def test_the_stack_file_takes_just_what_the_machine_understands(text: str) -> None:
    def taken(check: Any) -> bool:
        try:
            check(text)
        except ValueError:
            return False
        return True

    # One that is too short for people to ask for is kept where it is already.
    long = taken(patching.window) and patching.window(text).length >= timedelta(minutes=fields.SHORTEST)
    assert long == taken(fields.window)


@pytest.mark.parametrize("text", ["02:00-02:29", "23:50-00:10", "23:45-24:00"])
def test_a_window_that_would_be_missed_is_refused_in_the_stack_file(text: str) -> None:
    with pytest.raises(ValueError, match="less than 30 minutes"):
        fields.window(text)
    assert fields.window("23:45-00:15") == "23:45-00:15"


def test_a_window_is_shown_as_it_was_written() -> None:
    assert str(patching.window("22:30-04:00", "Europe/Berlin")) == "22:30-04:00 Europe/Berlin"
    assert str(patching.window("00:00-24:00")) == "00:00-24:00 UTC"
    assert patching.window("02:00-05:00") == patching.Window(begin=time(2), length=timedelta(hours=3))


# packages

SIMULATED = """\
Reading package lists...
The following packages have been kept back:
  linux-image-cloud-amd64 other
The following packages will be upgraded:
  containerd libc6
Inst libc6 [2.41-12] (2.41-12+deb13u1 Debian-Security:13/stable-security [amd64]) []
Inst linux-image-6.12.60+deb13-cloud-amd64 (6.12.60-1 Debian:13.2/stable [amd64])
Inst containerd [1.7.24~ds1-6+b4] (1.7.24~ds1-7 Debian:13.2/stable [amd64])
Conf libc6 (2.41-12+deb13u1 Debian-Security:13/stable-security [amd64])
"""


def test_what_apt_would_do_is_read() -> None:
    found = patching.changes(SIMULATED)
    assert [str(each) for each in found] == [
        "libc6 2.41-12 -> 2.41-12+deb13u1",
        "linux-image-6.12.60+deb13-cloud-amd64 (new) -> 6.12.60-1",
        "containerd 1.7.24~ds1-6+b4 -> 1.7.24~ds1-7",
    ]
    assert patching.kept_back(SIMULATED) == ["linux-image-cloud-amd64", "other"]
    assert patching.changes("Reading package lists...\n") == []
    assert patching.kept_back("0 upgraded\n") == []


def test_packages_under_pods_want_a_turn_and_those_that_all_have_loaded_a_reboot() -> None:
    libc, kernel, containerd = patching.changes(SIMULATED)
    assert not patching.needs_turn([libc, kernel])
    assert patching.needs_turn([libc, containerd])


def test_what_everything_has_loaded_wants_a_reboot_once_it_is_another() -> None:
    loaded = {"boot": "one", "libc6": "1", "systemd": "1", "dbus": "", "containerd": "1"}
    installed = {"libc6": "2", "systemd": "1", "dbus": "1", "intel-microcode": "1", "containerd": "2"}
    assert patching.base_changes(loaded, installed) == ["libc6 1 -> 2"]
    assert patching.base_changes({}, installed) == []


POLICY = """containerd:
  Installed: 1.7.24~ds1-6+deb13u1
  Candidate: 1.7.24~ds1-6+deb13u1
  Version table:
 *** 1.7.24~ds1-6+deb13u1 500
        500 https://mirror.example.org/debian trixie/main amd64 Packages
        100 /var/lib/dpkg/status
kubelet:
  Installed: 1.36.99-1
  Candidate: 1.36.99-1
  Package pin: 1.36.99-1
  Version table:
     1.37.0-1 -1
        500 https://packages.example.org/vre ./ Packages
 *** 1.36.99-1 500
        100 /var/lib/dpkg/status
runc:
  Installed: (none)
  Candidate: 1.1.15
  Version table:
     1.1.15 500
        500 https://mirror.example.org/debian trixie/main amd64 Packages
"""


def test_how_far_a_package_is_behind_the_newest_of_its_sources_also_where_a_pin_holds_it() -> None:
    assert patching.behind(POLICY) == {"kubelet": "1.37.0-1"}
    assert patching.behind("") == {}


# reboots


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("NEEDRESTART-VER: 3.8\nNEEDRESTART-KCUR: 6.12\nNEEDRESTART-KEXP: 6.12\nNEEDRESTART-KSTA: 1\n", []),
        ("NEEDRESTART-KCUR: a\nNEEDRESTART-KEXP: b\nNEEDRESTART-KSTA: 3\n", ["kernel a -> b"]),
        ("NEEDRESTART-KCUR: a\nNEEDRESTART-KEXP: b\nNEEDRESTART-KSTA: 2\n", ["kernel a -> b"]),
        ("NEEDRESTART-KSTA: 0\nNEEDRESTART-UCSTA: 0\n", []),
        ("NEEDRESTART-UCSTA: 2\nNEEDRESTART-UCCUR: 0x1\nNEEDRESTART-UCEXP: 0x2\n", ["microcode 0x1 -> 0x2"]),
        ("", []),
    ],
)
def test_what_needrestart_says(said: str, why: list[str]) -> None:
    assert patching.needrestart(said) == why


def test_a_reboot_waits_since_it_was_first_wanted_and_no_longer_than_the_boot() -> None:
    first = patching.reboot({}, boot="a", why=["libc6 1 -> 2"], now=NOW)
    assert first == {"boot": "a", "since": NOW.isoformat(), "why": ["libc6 1 -> 2"]}
    later = patching.reboot({"reboot": first}, boot="a", why=["kernel a -> b"], now=NOW + timedelta(days=1))
    assert later == {**first, "why": ["libc6 1 -> 2", "kernel a -> b"]}
    assert patching.reboot({"reboot": later}, boot="b", why=[], now=NOW) is None
    assert patching.reboot({}, boot="a", why=[], now=NOW) is None


def test_a_reboot_that_did_not_bring_the_kernel_is_not_tried_again_and_again() -> None:
    state = {"rebooted": {"boot": "a", "why": ["kernel a -> b", "libc6 1 -> 2"]}}
    assert patching.in_vain(state, boot="b", why=["kernel a -> b"]) == "kernel a -> b"
    assert patching.in_vain(state, boot="a", why=["kernel a -> b"]) == ""  # still to come
    assert patching.in_vain(state, boot="b", why=["kernel b -> c"]) == ""
    state = {"rebooted": {"boot": "a", "why": ["microcode 1 -> 2"]}}
    assert patching.in_vain(state, boot="b", why=["microcode 1 -> 2"]) == "microcode 1 -> 2"
    assert patching.in_vain({}, boot="b", why=["kernel a -> b"]) == ""


# turns and nodes


@pytest.mark.parametrize(
    ("notes", "other"),
    [
        ({}, ""),
        ({"vre/holder": "", "vre/heard": NOW.isoformat()}, ""),
        ({"vre/holder": "own", "vre/heard": NOW.isoformat()}, ""),
        ({"vre/holder": "two", "vre/heard": NOW.isoformat()}, "two"),
        ({"vre/holder": "two", "vre/heard": (NOW - timedelta(minutes=59)).isoformat()}, "two"),
        ({"vre/holder": "two", "vre/heard": (NOW - timedelta(minutes=61)).isoformat()}, ""),
        ({"vre/holder": "two", "vre/heard": "some day"}, ""),
        ({"vre/holder": "two"}, ""),
    ],
)
@pytest.mark.requirement("P-23")
def test_a_turn_is_held_until_its_holder_was_not_heard_of_for_an_hour(notes: dict[str, str], other: str) -> None:
    assert patching.held({"metadata": {"annotations": notes}}, "own", NOW) == other


def pod(name: str, *, owner: str = "", mirror: bool = False, phase: str = "Running") -> dict[str, Any]:
    about: dict[str, Any] = {"name": name, "ownerReferences": [{"kind": owner}] if owner else None}
    about |= {"annotations": {"kubernetes.io/config.mirror": "x"}} if mirror else {}
    return {"metadata": about, "status": {"phase": phase}}


def test_daemons_static_pods_and_what_has_ended_stay_at_a_drain() -> None:
    stay = [pod("a", owner="DaemonSet"), pod("b", mirror=True), pod("c", phase="Succeeded"), pod("d", phase="Failed")]
    go = [pod("e", owner="ReplicaSet"), pod("f"), pod("g", phase="Pending")]
    assert patching.movable([*stay, *go]) == go


def test_a_node_is_ready_only_in_the_boot_that_it_is() -> None:
    conditions = [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}]
    node = {"status": {"nodeInfo": {"bootID": "b"}, "conditions": conditions}}
    assert patching.ready(node, "b")
    assert not patching.ready(node, "a")
    assert not patching.ready({"status": {"nodeInfo": {"bootID": "b"}, "conditions": conditions[:1]}}, "b")
    assert not patching.ready({}, "b")


@pytest.mark.requirement("P-11")
@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("v3.6.6", "v3.6.7", True),
        ("v3.6.9", "v3.6.10", True),
        ("v3.6.7", "v3.6.6", False),
        ("v3.6.6", "v3.7.0", False),
        ("v3.6.6", "v4.6.7", False),
        ("3.6.8-0", "3.6.8-1", True),
        ("13", "13", True),
        ("13", "14", False),
        ("1.2", "1.3", False),
        ("stable", "stable", True),
        ("stable", "testing", False),
    ],
)
def test_patch_levels_follow_one_another_and_nothing_else_does(old: str, new: str, may: bool) -> None:
    assert patching.follows(old, new) is may
