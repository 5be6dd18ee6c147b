"""The pages and files that are made from the code: the schema and its page, and which test shows which requirement."""

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vre import standards, yamltext
from vre.config import schema
from vre.packages import containers, machine
from vre.paths import project

MADE = "<!-- Made by `make generate`; edit what it is made from. -->\n"
LATER = {
    "name": "Another VRE: destroy the old one first.",
    "cloud": "The machines are made anew; what is on their disks is lost.",
    "cloud.accelerator": "In place: the machine restarts.",
    "access.keys": "In place: the machines' authorized keys change.",
    "access.anywhere": "In place.",
    "access.operators": "In place: firewalls change, machines go on.",
    "access.identity": "In place.",
    "edge": "In place: a new certificate is issued for the names that change.",
    "edge.acme": "In place: the ingress shows the other certificate.",
    "edge.acme.terms": "Nothing: it is noted in the file.",
    "edge.acme.directory": "In place: a certificate is ordered there, by another account.",
    "edge.acme.contact": "Told to the authority with the next renewal.",
    "edge.acme.server": "In place: from the next renewal on.",
    "edge.zone": "In place: records, certificates and rules move to the new zone.",
    "edge.managed-rules": "In place: the rule comes or goes.",
    "edge.rate-limit": "In place: the rule comes or goes.",
    "machines.control.size": "In place: the machine is shut down and started again.",
    "machines.control.disk": "May grow in place; smaller is refused.",
    "machines.control.data": "May grow in place; smaller is refused.",
    "machines.workers.size": "In place: the machines are shut down and started again.",
    "machines.workers.count": "Machines come and go at the end of the row; the others stay.",
    "machines.workers.without": "That machine is drained and goes, with its disks; the others stay.",
    "cloud.volume-type": "In place where the cloud can retype a disk; most refuse that for encrypted ones in use.",
    "cloud.image": "For machines made from then on; standing ones keep their disks.",
    "cloud.channel": "In place: where the next launch looks.",
    "machines.workers.disk": "May grow in place; smaller is refused.",
    "machines.workers.data": "May grow in place; smaller is refused.",
    "data": "In place: firewalls change where the class closes something.",
    "data.approval": "Nothing on the machines. No launch once it has ended; `vre audit` tells 60 days before.",
    "outbound": "In place: firewalls change, machines go on.",
    "outbound.resolvers": "In place: firewalls change, and machines ask the others from then on.",
    "patches": "In place: the machines are told.",
    "services": "In place: the service restarts where it has to; homes stay.",
    "services.jupyter.disk": "For homes made from then on; existing ones keep their size.",
    "services.jupyter.password": "In place: the admin's password is set anew.",
}
"""What changing a key does to a VRE that runs; a key that is not named has the effect of the nearest one above it."""

INTRODUCTION = """# The stack file

One file says what a VRE is: `stacks/Pulumi.NAME.yaml`. The words are the same on every cloud. `vre check -s NAME`
reads it, looks at this machine and says everything that is wrong at once, each fault with its line, the reason and an
example; nothing is touched before all of it is right. Keys that are not known are refused.

The smallest file that works:

```yaml
config:
  vre:cloud: {provider: libvirt}
  vre:access: {keys: [.vre/id_ed25519.pub]}
  vre:services: {jupyter: {}}
```

Secrets, such as a password of your own, do not belong into the file in the open. This writes one sealed:

```sh
pulumi config set --secret --path 'vre:services.jupyter.password' -s NAME
```

Editors that know JSON Schema check the file while you type: the schema is [stack.schema.json](stack.schema.json).
Each cloud has a page of its own in [clouds/](clouds/): credentials, permissions, what is made, what it costs.

The last column says what changing a key does to a VRE that runs already.
"""

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of the stack file, for its row in the page."""

    name: str
    about: str
    values: str
    default: str
    example: str
    later: str


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One thing that the project has to be.

    `kind` is must, roadmap or context; `open` is what is missing although tests show a part of it, `why` the reason for
    which nothing of it is in place, where there is one.
    """

    id: str
    what: str
    kind: str
    open: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A test that shows something to hold. Drills, the longest, run with `make test-all` only."""

    test: str
    drill: bool = False

    def __str__(self) -> str:
        """Return it as the page names it."""
        return f"`{self.test}`{' (drill)' if self.drill else ''}"


def files() -> dict[str, Callable[[], str]]:
    """Return every file that is made, by its path in the project, and how."""
    return {
        "docs/stack.schema.json": schema_text,
        "docs/stack-file.md": stack_file_text,
        "docs/requirements.md": requirements_text,
        "docs/security/standards.md": lambda: f"{MADE}{standards.text()}",
        "build/containers/number.yaml": containers.text,
        "build/image/machine.yaml": machine.text,
    }


def write(root: Path | None = None) -> list[Path]:
    """Write every file that is made; return the paths of those that changed."""
    changed = []
    for name, make in files().items():
        path, text = (root or project()) / name, make()
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(path)
    return changed


def schema_text() -> str:
    """Return the JSON Schema of stack files."""
    return json.dumps(schema(), indent=2) + "\n"


def stack_file_text() -> str:
    """Return the page about the stack file: every key, from the schema."""
    whole = schema()
    definitions = whole["$defs"]
    parts = [MADE, INTRODUCTION]
    for name, prop in whole["properties"]["config"]["properties"].items():
        parts.append(f"\n## `{name}`\n\n{prop.get('description', '')}.\n")
        parts += [_section(title, rows) for title, rows in _groups(name.removeprefix("vre:"), prop, definitions)]
    return "".join(parts)


def stack_keys() -> list[Key]:
    """Return every key of the stack file, also those that only one variant has."""
    whole = schema()
    top = whole["properties"]["config"]["properties"]
    return [
        key
        for name, prop in top.items()
        for _, group in _groups(name.removeprefix("vre:"), prop, whole["$defs"])
        for key in group
    ]


def _groups(key: str, prop: Schema, definitions: Schema) -> Iterator[tuple[str, list[Key]]]:
    """Yield the rows below a key; one group for each variant where there are several."""
    variants = prop.get("oneOf") or []
    if not variants:
        yield "", list(_rows(key, prop, definitions, required="default" not in prop))
    for variant in variants:
        shape = _resolved(variant, definitions)
        provider = shape["properties"]["provider"]["const"]
        yield f"`{provider}`: {shape.get('description', '')}", list(_rows(key, variant, definitions))


def _rows(key: str, prop: Schema, definitions: Schema, *, required: bool = True) -> Iterator[Key]:
    shape = _resolved(prop, definitions)
    inner = shape.get("properties")
    if not inner:
        yield _row(key, prop, definitions, required=required)
        return
    needed = shape.get("required", [])
    for name, each in inner.items():
        yield from _rows(f"{key}.{name}", each, definitions, required=name in needed)


def _row(key: str, prop: Schema, definitions: Schema, *, required: bool) -> Key:
    examples = prop.get("examples") or []
    missing = prop.get("default") in (None, [], "")
    return Key(
        name=key,
        about=str(prop.get("description", "")),
        values=_values(prop, definitions),
        default="needed" if required else "" if missing else f"`{_shown(prop['default'])}`",
        example=f"`{_shown(examples[0])}`" if examples else "",
        later=later(key),
    )


def later(key: str) -> str:
    """Return what changing a key does to a VRE that runs."""
    parts = key.split(".")
    found = (LATER.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
    return next((text for text in found if text), "")


def _values(prop: Schema, definitions: Schema) -> str:
    """Return which values a key takes, in words."""
    options = prop.get("anyOf") or prop.get("oneOf")
    if options:
        kinds = [_values(each, definitions) for each in options if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in prop:
        return "`{" + ", ".join(_resolved(prop, definitions).get("properties", {})) + "}`"
    words = prop.get("enum") or ([prop["const"]] if "const" in prop else [])
    if words:
        return ", ".join(f"`{word}`" for word in words)
    if prop.get("type") == "array":
        return f"list of {_values(prop.get('items', {}), definitions)}"
    if "minimum" in prop and "maximum" in prop:
        return f"{prop['minimum']} to {prop['maximum']}"
    names = {"string": "text", "boolean": "`true`, `false`", "integer": "whole number", "number": "number"}
    return names.get(str(prop.get("type")), "")


def _resolved(prop: Schema, definitions: Schema) -> Schema:
    """Follow a reference, also the only one that is not null."""
    if "$ref" in prop:
        found: Schema = definitions[str(prop["$ref"]).rsplit("/", 1)[-1]]
        return found
    real = [each for each in prop.get("anyOf", []) if each.get("type") != "null"]
    return _resolved(real[0], definitions) if len(real) == 1 and "$ref" in real[0] else prop


def _section(title: str, rows: Iterable[Key]) -> str:
    head = "| key | what | values | default | example | changing it later |\n|---|---|---|---|---|---|\n"
    lines = (
        f"| `{row.name}` | {row.about} | {row.values} | {row.default} | {row.example} | {row.later} |\n" for row in rows
    )
    return (f"\n{title}\n" if title else "") + "\n" + head + "".join(line.replace("|  |", "| |") for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def requirements(root: Path | None = None) -> list[Requirement]:
    """Return everything that the project has to be."""
    loaded = yamltext.load(((root or project()) / "docs" / "requirements.yaml").read_text())
    return [Requirement(**each) for each in loaded]


def shown_by(root: Path | None = None) -> dict[str, list[Shown]]:
    """Return which tests show which requirement to hold, as the tests themselves say."""
    top = (root or project()) / "tests"
    found: dict[str, list[Shown]] = {}
    for file in sorted(top.rglob("test_*.py")):
        place, marks = file.relative_to(top.parent), list(marked(ast.parse(file.read_text())))
        everywhere = any(drill for test, _, drill in marks if not test)
        for test, ids, drill in marks:
            shown = Shown(test=f"{place}::{test}" if test else str(place), drill=drill or everywhere)
            for each in ids:
                found.setdefault(each, []).append(shown)
    return found


def marked(tree: ast.Module) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each test of a module, nothing for the module itself: what requirements it names, whether it is a drill."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Name) and to.id == "pytestmark" for to in node.targets
        ):
            yield "", _ids([node.value]), _is_drill([node.value])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, _ids(node.decorator_list), _is_drill(node.decorator_list)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    drill = _is_drill([*node.decorator_list, *inner.decorator_list])
                    yield f"{node.name}::{inner.name}", _ids(inner.decorator_list), drill


def _is_drill(nodes: Iterable[ast.expr]) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "drill" for node in nodes for each in ast.walk(node))


def _ids(nodes: Iterable[ast.expr]) -> list[str]:
    calls = [inner for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return [
        str(word.value)
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "requirement"
        for word in call.args
        if isinstance(word, ast.Constant)
    ]


def requirements_text(root: Path | None = None) -> str:
    """Return the page that says of each requirement which test shows it, or that it is not in place."""
    every, by = requirements(root), shown_by(root)
    shown = [each for each in every if each.id in by]
    part = sum(1 for each in shown if each.open)
    head = (
        f"{MADE}# Requirements\n\n"
        "What the project has to be, and what is in place. A requirement is *met* when tests of this repository\n"
        "show it; they are named beside it. It is met *in part* when something is open, which is named too.\n"
        "All others are *not in place*, or nothing shows yet that they are: do not rely on them. A *drill* is a test\n"
        "that takes long: `make test-all` runs it, `make test` does not.\n\n"
        "Kinds: must; roadmap (planned or considered); context (background, or a weakness of earlier systems).\n\n"
        f"**Of {len(every)}, {len(shown) - part} are met and {part} in part.**\n\n"
        "| id | what | kind | state |\n|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {each.id} | {each.what} | {each.kind} | {_state(each, by.get(each.id, []))} |\n" for each in every
    )


def _state(requirement: Requirement, tests: Sequence[Shown]) -> str:
    named = ", ".join(map(str, tests))
    if not tests:
        return f"not in place: {requirement.why}" if requirement.why else "not in place"
    return f"in part: {named}; open: {requirement.open}" if requirement.open else f"met: {named}"
