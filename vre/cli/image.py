"""Commands around the base image: build, test, publish, promote, roll back, list."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vre.cli.options import AsJson
from vre.errors import VreError
from vre.progress import step

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from vre.cli.checks import Check
    from vre.release.channel import Channel
    from vre.release.pins import Pin
    from vre.release.verify import Wanted
    from vre.release.vulnerabilities import Found

Target = Annotated[
    str, typer.Option("--to", envvar="VRE_IMAGE_TARGET", help="Name the folder of releases; else this checkout's own")
]
Image = Annotated[str, typer.Argument(help="Name a release: its folder, or its id in --output's", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="Name the folder that releases are built in")]
DIST = Path("dist")
app = typer.Typer(help="Build, test and publish the base image", no_args_is_help=True)


@app.command()
def build(
    *,
    formats: Annotated[list[str] | None, typer.Option("--format", "-f", help="Name a format; more than once")] = None,
    output: Output = DIST,
) -> None:
    """Build the image and write a signed release"""
    from vre.artifacts.store import Store
    from vre.cli import parts

    parts.ensure_modules(parts.RELEASE, "spdx_tools")
    from vre.release import build as releases
    from vre.release import envelope

    wanted = releases.known(formats or ["qcow2"])
    key = envelope.signer(_key())
    with step("release of the image") as report:
        folder = releases.build(output, wanted, Store(), key, report)
    sys.stdout.write(f"{folder}\n")


@app.command()
def test(
    image: Image,
    *,
    launch: Annotated[bool, typer.Option("--launch", help="Launch a stack from it, too, and run a cell")] = False,
    output: Output = DIST,
    as_json: AsJson = False,
) -> None:
    """Boot a release, look at it, sign what was seen"""
    from vre.cli import checks, image_checks
    from vre.release import envelope

    folder = _release(image, output)
    with step("testing the image") as report:
        found, release = image_checks.whole(folder, _wanted(), report, launch=launch)
        image_checks.sign(release, found, envelope.signer(_key()))
    checks.show(found, title=f"Release {release.manifest.id}, tested now", machine_readable=as_json)


@app.command()
def publish(image: Image, *, to: Target = "", output: Output = DIST) -> None:
    """Copy a release to where others read it"""
    from vre.cli import parts
    from vre.release import glance
    from vre.release import publish as publishing

    if to.startswith(glance.SCHEME):
        parts.ensure_modules("openstack", "openstack")
        with step("publishing") as report:
            identity = glance.publish(_release(image, output), to, _keys(), report)
        sys.stdout.write(f"{identity}\n")
        return
    target = _target(to)
    with step("publishing") as report:
        there = publishing.publish(_release(image, output), target, _keys(), report)
    sys.stdout.write(f"{there.folder}\n")


@app.command()
def promote(image: Annotated[str, typer.Argument(help="Name a published release's id")], *, to: Target = "") -> None:
    """Make a published, tested release the current one"""
    from vre.release import envelope
    from vre.release import publish as publishing

    target = _target(to)
    with step("promoting") as report:
        after = publishing.promote(target, image, envelope.signer(_key()), _keys(), report)
    sys.stdout.write(_moved(after))


@app.command()
def rollback(*, to: Target = "") -> None:
    """Make the release before the current one current"""
    from vre.release import envelope
    from vre.release import publish as publishing

    target = _target(to)
    with step("rolling back") as report:
        after = publishing.roll_back(target, envelope.signer(_key()), _keys(), report)
    sys.stdout.write(_moved(after))


@app.command()
def prune(
    *,
    keep: Annotated[int, typer.Option(min=0, help="Keep so many beside the current and the previous one")] = 5,
    to: Target = "",
) -> None:
    """Remove old releases from where others read them"""
    from vre.release import envelope
    from vre.release import publish as publishing

    target = _target(to)
    with step("removing old releases") as report:
        gone = publishing.prune(target, keep, envelope.signer(_key()), _keys(), report)
    sys.stdout.write("".join(f"{each}\n" for each in gone))


@app.command("list")
def listing(
    *,
    channel: Annotated[str, typer.Option(help="Name a folder or https://...; else this checkout's own")] = "",
    as_json: AsJson = False,
) -> None:
    """List a channel's releases and its moves"""
    from vre.release import channel as channels
    from vre.release import reading

    found = reading.channel_at(reading.at(channel), _keys())
    if as_json:
        sys.stdout.write(channels.text(found).decode())
    else:
        _table(found)


@app.command()
def verify(image: Image, *, output: Output = DIST) -> None:
    """Check a release's signatures and every byte of it"""
    from vre.release import verify as verification

    with step("checking signatures and digests"):
        found = verification.verify(_release(image, output), _wanted())
    names = ", ".join(sorted(found.manifest.files))
    sys.stdout.write(f"release {found.manifest.id} is what was signed: {names}\n")


@app.command()
def pins(
    *,
    raise_: Annotated[bool, typer.Option("--raise", help="Rewrite what is behind its newest patch")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare what is pinned with its makers' newest"""
    from vre.cli import checks, parts

    parts.ensure_modules(parts.RELEASE, "univers", "uv")
    from vre.release import pins as pinned

    with step("asking the registries") as report:
        found = pinned.look(report)
    if raise_:
        from vre.release import raising

        with step("raising what is behind") as report:
            changed, faults = raising.raised(found, report)
        sys.stdout.write("".join(f"{path}\n" for path in changed))
        if faults:
            raise VreError("\n".join(map(str, faults)), hint="all others were raised: build and test with them")
        return
    checks.show([_pin(each) for each in found], title="Pins", machine_readable=as_json)


@app.command()
def vulnerabilities(
    image: Image,
    *,
    database: Annotated[list[Path], typer.Option(help="Name a zip file or folder of OSV's records; more than once")],
    output: Output = DIST,
    as_json: AsJson = False,
) -> None:
    """Compare a release's bill of materials with those known"""
    from vre.cli import checks, parts

    parts.ensure_modules(parts.RELEASE, "cvss", "univers")
    from vre.release import manifest
    from vre.release import verify as verification
    from vre.release import vulnerabilities as known

    with step("comparing with what is known") as report:
        release = verification.verify(_release(image, output), _wanted())
        there = known.parts((release.folder / manifest.BILL).read_bytes())
        report(f"{len(there)} parts")
        found = [each for place in database for each in known.look(there, known.records(place))]
    told = [_vulnerability(each) for each in found]
    told = told or [checks.good("vulnerabilities", "known", f"none of {len(there)} parts has one that is known here")]
    checks.show(told, title=f"Release {release.manifest.id}, known vulnerabilities", machine_readable=as_json)


@app.command()
def key() -> None:
    """Print the public key that signs here, for build/trusted"""
    from vre.release import envelope

    sys.stdout.write(envelope.pem(envelope.signer(_key()).public_key).decode())


def _vulnerability(found: "Found") -> "Check":
    """Return how bad a known vulnerability is: a critical one that can be mended is not let pass."""
    from vre.cli.checks import bad, warning

    score = f"{found.score:.1f}" if found.score else "not scored"
    mended = f"mended in {found.fixed}" if found.fixed else "not mended yet"
    told = f"{found.id} ({score}), {mended}{f': {found.about}' if found.about else ''}"
    name = f"{found.part.name} {found.part.version}"
    if found.urgent:
        return bad(found.part.ecosystem, name, told, "vre image pins --raise, then build it again")
    return warning(found.part.ecosystem, name, told)


def _pin(pin: "Pin") -> "Check":
    """Return how a pin is; a newer minor version is told and no more."""
    from vre.cli.checks import good, warning

    if pin.fault:
        return warning(pin.kind, pin.name, f"{pin.pinned}; its maker could not be asked: {pin.fault.strip()}")
    told = pin.pinned if pin.newest in {pin.pinned, pin.patch} else f"{pin.pinned}; the newest is {pin.newest}"
    if pin.behind:
        return warning(pin.kind, pin.name, f"{told}; its newest patch is {pin.patch}", "vre image pins --raise")
    return good(pin.kind, pin.name, told)


def _key() -> str:
    from vre.release import envelope

    return envelope.named()


def _keys() -> "list[SSlibKey]":
    from vre.release import envelope

    return envelope.trusted(_key())


def _wanted() -> "Wanted":
    from vre.image.formats import FORMATS
    from vre.release.verify import Wanted

    return Wanted(keys=_keys(), known=tuple(FORMATS))


def _target(given: str) -> Path:
    from vre.release import place, reading

    return place.folder(given) if given else reading.own()


def _release(image: str, output: Path) -> Path:
    """Return a release's folder from its path or its id. Raises VreError when there is none."""
    for folder in (Path(image), output / image):
        if folder.is_dir():
            return folder
    there = sorted(path.name for path in output.glob("*") if path.is_dir())
    raise VreError(f"no release {image}", hint=f"in {output} there are: {', '.join(there) or 'none; vre image build'}")


def _moved(after: "Channel") -> str:
    current, previous = (each.id if each else "none" for each in (after.current, after.previous))
    return f"current {current}\nprevious {previous}\nnumber {after.serial}\n"


def _table(found: "Channel") -> None:
    from rich.table import Table

    from vre.cli.console import console

    releases = {"current": found.current, "previous": found.previous}
    table = Table(title="Releases", title_justify="left", box=None, pad_edge=False)
    for name in ("", "id", "manifest"):
        table.add_column(name)
    for name, each in [*releases.items(), *(("older", each) for each in found.older)]:
        table.add_row(name, each.id if each else "none", each.manifest[:16] if each else "")
    console().print(table)
    moves = Table(title="Moves", title_justify="left", box=None, pad_edge=False)
    for name in ("number", "when", "what", "id"):
        moves.add_column(name)
    for move in reversed(found.history):
        moves.add_row(str(move.serial), move.at, move.action, move.id)
    console().print(moves)
