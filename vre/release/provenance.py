"""Statements about a release, in the form that others read: where it came from, and how its test went.

https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md, https://slsa.dev/spec/v1.0/provenance and
https://github.com/in-toto/attestation/blob/v1.1.0/spec/predicates/test-result.md
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vre.errors import VreError
from vre.paths import project
from vre.release import manifest
from vre.release.manifest import Manifest
from vre.run import run

KIND = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST = "https://in-toto.io/attestation/test-result/v0.1"
BUILD = "urn:vre:image-build:v1"
FAILED = "FAILED"
PASSED = "PASSED"
PINS = ("build/versions.yaml", "build/image/image.yaml", "build/containers/images.yaml")


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """What was built from: the commit, empty where there is none, and whether nothing had been changed since."""

    commit: str
    clean: bool


def checkout() -> Checkout:
    """Return what this project is checked out at; the commit is empty where it is no checkout."""
    git = ["git", "-c", f"safe.directory={project()}", "-C", str(project())]
    try:
        commit = run([*git, "rev-parse", "--verify", "HEAD"]).strip()
        return Checkout(commit=commit, clean=not run([*git, "status", "--porcelain", "--untracked-files=no"]).strip())
    except VreError:
        return Checkout(commit="", clean=False)


def provenance(made: Manifest, told: bytes, at: Checkout, builder: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the statement where a release came from. `files` are the project's own files that pin its inputs. Pure."""
    source = {"name": "checkout", "digest": {"gitCommit": at.commit}, "annotations": {"clean": at.clean}}
    pins = [_described(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(files.items())]
    inputs = [_described(name, digest) for name, digest in sorted(made.inputs.items())]
    return _statement(
        [manifest_subject(told), *(_described(name, file.sha256) for name, file in sorted(made.files.items()))],
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {"formats": sorted(file.format for file in made.files.values() if file.format)},
                "internalParameters": {"architecture": made.architecture, "suite": made.suite},
                "resolvedDependencies": [*([source] if at.commit else []), *pins, *inputs],
            },
            "runDetails": {"builder": {"id": f"urn:vre:key:{builder}"}},
        },
    )


def test_result(told: bytes, passed: Iterable[str], failed: Iterable[str]) -> dict[str, Any]:
    """Return the statement how the test of the release with this manifest went. Pure."""
    well, ill = sorted(passed), sorted(failed)
    return _statement(
        [manifest_subject(told)],
        TEST,
        {
            "result": PASSED if well and not ill else FAILED,
            "configuration": [{"name": "vre image test"}],
            "passedTests": well,
            "failedTests": ill,
        },
    )


def about(statement: Mapping[str, Any], told: bytes, kind: str) -> Mapping[str, Any]:
    """Return a statement's predicate. Raises VreError when it is of another kind or about another release. Pure."""
    if statement.get("_type") != STATEMENT or statement.get("predicateType") != kind:
        raise VreError(f"is no statement {kind}")
    if manifest_subject(told) not in statement.get("subject", []):
        raise VreError("is about another release")
    predicate: Mapping[str, Any] = statement.get("predicate", {})
    return predicate


def text(statement: Mapping[str, Any]) -> bytes:
    """Return a statement's text: the same from the same."""
    return (json.dumps(statement, indent=1, sort_keys=True) + "\n").encode()


def pins() -> dict[str, bytes]:
    """Return the project's files that pin what an image is made from."""
    sums = sorted(project().glob("build/go/*/go.sum"))
    return {str(path.relative_to(project())): path.read_bytes() for path in [*map(project().joinpath, PINS), *sums]}


def manifest_subject(told: bytes) -> dict[str, Any]:
    """Return how a statement names the manifest, and by that everything in the release."""
    return _described(manifest.NAME, hashlib.sha256(told).hexdigest())


def _described(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def _statement(subject: list[dict[str, Any]], kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return {"_type": STATEMENT, "subject": subject, "predicateType": kind, "predicate": predicate}
