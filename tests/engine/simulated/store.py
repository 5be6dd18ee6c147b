"""What a simulated cloud holds, what was asked of it, and what is to go wrong: one file, which outlives its plugins."""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vre.provider.handler import Props

ENVIRONMENT = "VRE_SIMULATED_CLOUD"
"""The variable that tells the plugins where the file is."""
PATIENCE = 60.0  # seconds to wait for another plugin that is writing
TABLES = """
create table if not exists things (
    type text, id text, urn text, plugin text, inputs text, outputs text, given integer, primary key (type, id));
create table if not exists names (type text, name text, id text, primary key (type, name, id));
create table if not exists refers (type text, id text, to_type text, to_id text, path text);
create index if not exists referred on refers (to_type, to_id);
create index if not exists referring on refers (type, id);
create table if not exists journal (
    seq integer primary key, at real, pid integer, plugin text, method text, type text, urn text, id text,
    preview integer, told text, outcome text, fault text);
create table if not exists faults (id integer primary key, since integer, rule text);
create table if not exists hits (fault integer, key text, primary key (fault, key));
"""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that stands in the cloud. `given` was there before anybody came, and no launch accounts for it."""

    type: str
    id: str
    inputs: Props
    outputs: Props
    urn: str = ""
    plugin: str = ""
    given: bool = False

    @property
    def name(self) -> str:
        """The name that the program gave it."""
        return self.urn.split("::")[-1]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One call as it was asked. `outcome` is empty while it runs (or was killed), `done`, or what went wrong."""

    seq: int
    at: float
    pid: int
    plugin: str
    method: str
    type: str
    urn: str
    id: str
    preview: bool
    told: Props
    outcome: str
    fault: str

    @property
    def name(self) -> str:
        """The name that the program gave the resource."""
        return self.urn.split("::")[-1]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is to go wrong, and at which call: the nth of those that fit, and as many after it as `times` says.

    fail: nothing is made, the call errs. throttle: the same, but the plugin tries again, as an official one does.
    lose: the thing is made and the reply is lost. half: it is made and kept in the engine's state as not whole.
    hang: the call waits until it is cancelled, before anything is made; stall: the same, once it is made.
    `type` may end in `*`. With `once_per`, the first call of each type, or of each resource and method, goes wrong, in
    place of the nth.
    """

    what: Literal["fail", "throttle", "lose", "half", "hang", "stall"] = "fail"
    method: str = ""
    type: str = ""
    name: str = ""
    plugin: str = ""
    nth: int = 1
    times: int = 1
    once_per: Literal["", "type", "name"] = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """That something refers to something else by a property."""

    type: str
    id: str
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of the cloud by one call."""

    plugin: str
    method: str
    type: str
    urn: str = ""
    id: str = ""
    preview: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


class Cloud:
    """The file of one simulated cloud. Any number of plugins and tests may use it at the same time."""

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path or os.environ[ENVIRONMENT])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.executescript(TABLES)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            database.row_factory = sqlite3.Row
            # A killed process loses nothing; a machine that loses power loses a test.
            database.execute("pragma synchronous = off")
            yield database
        finally:
            database.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("begin immediate")
            try:
                yield database
            except BaseException:
                database.execute("rollback")
                raise
            database.execute("commit")

    def resources(self, kind: str = "", *, given: bool = False) -> list[Thing]:
        """Return what stands in the cloud, oldest first; of one type when it is named; with what was there before."""
        wanted = "select * from things where (? = '' or type = ?) and given <= ? order by rowid"
        with self._open() as database:
            return [_thing(row) for row in database.execute(wanted, (kind, kind, given))]

    def find(self, kind: str, name: str) -> Thing | None:
        """Return a thing by its id, or by any other name it is known by."""
        known = "select id from names where type = ? and name = ?"
        wanted = f"select * from things where type = ? and (id = ? or id in ({known}))"
        with self._open() as database:
            row = database.execute(wanted, (kind, name, kind, name)).fetchone()
        return _thing(row) if row else None

    def put(self, thing: Thing, *, names: Iterable[str] = (), refers: Iterable[Reference] = ()) -> None:
        """Keep a thing in place of what had its type and id."""
        with self._change() as database:
            _forget(database, thing.type, thing.id, links_only=True)
            text = (json.dumps(thing.inputs), json.dumps(thing.outputs))
            database.execute(
                "insert into things values (?, ?, ?, ?, ?, ?, ?) on conflict (type, id) do update set"
                " urn = excluded.urn, inputs = excluded.inputs, outputs = excluded.outputs",
                (thing.type, thing.id, thing.urn, thing.plugin, *text, thing.given),
            )
            database.executemany(
                "insert or ignore into names values (?, ?, ?)", [(thing.type, name, thing.id) for name in names]
            )
            database.executemany(
                "insert into refers values (?, ?, ?, ?, ?)",
                [(thing.type, thing.id, each.type, each.id, each.path) for each in refers],
            )

    def remove(self, kind: str, identity: str) -> None:
        """Take a thing away, as if somebody had deleted it by hand. What lived inside a machine goes with it."""
        inside = "select type, id from things where plugin = 'vre' and json_extract(inputs, '$.machine') = ?"
        with self._change() as database:
            _forget(database, kind, identity)
            # What is on a machine may have the machine's id: its end is not the machine's.
            machine = not kind.startswith(("vre:machine:", "vre:cluster:"))
            for row in database.execute(inside, (identity,)).fetchall() if machine else ():
                _forget(database, row["type"], row["id"])

    def change(self, kind: str, identity: str, **properties: Any) -> Thing:
        """Change properties of a thing by hand, wherever they stand: inputs, outputs or both."""
        found = self.find(kind, identity)
        if found is None:
            raise LookupError(f"no {kind} {identity}")
        inputs = {**found.inputs, **{key: value for key, value in properties.items() if key not in found.outputs}}
        inputs.update({key: value for key, value in properties.items() if key in found.inputs})
        outputs = {**found.outputs, **properties}
        with self._change() as database:
            database.execute(
                "update things set inputs = ?, outputs = ? where type = ? and id = ?",
                (json.dumps(inputs), json.dumps(outputs), found.type, found.id),
            )
        return Thing(**{**vars(found), "inputs": inputs, "outputs": outputs})

    def referring(self, kind: str, identity: str) -> list[Reference]:
        """Return what refers to a thing."""
        wanted = "select type, id, path from refers where to_type = ? and to_id = ?"
        with self._open() as database:
            return [Reference(**row) for row in database.execute(wanted, (kind, identity))]

    def journal(self, method: str = "", *, kind: str = "", preview: bool = False) -> list[Entry]:
        """Return what was asked, first call first; of one method or type when named; with what previews asked."""
        wanted = (
            "select * from journal where (? = '' or method = ?) and (? = '' or type = ?) and preview <= ? order by seq"
        )
        with self._open() as database:
            return [_entry(row) for row in database.execute(wanted, (method, method, kind, kind, preview))]

    def begin(self, asked: Asked) -> tuple[int, Fault | None]:
        """Note that a call begins; return its number, and what is to go wrong with it."""
        with self._change() as database:
            row = (time.time(), os.getpid(), asked.plugin, asked.method, asked.type, asked.urn, asked.id)
            made = database.execute(
                "insert into journal values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '')",
                (*row, asked.preview, json.dumps(asked.told, default=lambda _: "unknown")),
            )
            number = int(made.lastrowid or 0)
            fault = None if asked.preview else _due(database, number, asked)
            if fault:
                database.execute("update journal set fault = ? where seq = ?", (fault.what, number))
        return number, fault

    def end(self, number: int, outcome: str = "done", *, identity: str = "") -> None:
        """Note how a call ended."""
        with self._change() as database:
            database.execute(
                "update journal set outcome = ?, id = case when ? = '' then id else ? end where seq = ?",
                (outcome, identity, identity, number),
            )

    def plan(self, *faults: Fault) -> None:
        """Have these faults happen from now on, in place of all that were planned before."""
        with self._change() as database:
            database.execute("delete from faults")
            database.execute("delete from hits")
            since = database.execute("select coalesce(max(seq), 0) from journal").fetchone()[0]
            database.executemany(
                "insert into faults (since, rule) values (?, ?)",
                [(since, json.dumps(asdict(fault))) for fault in faults],
            )


def _thing(row: sqlite3.Row) -> Thing:
    made = {**row, "inputs": json.loads(row["inputs"]), "outputs": json.loads(row["outputs"])}
    return Thing(**{**made, "given": bool(row["given"])})


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(**{**row, "told": json.loads(row["told"]), "preview": bool(row["preview"])})


def _forget(database: sqlite3.Connection, kind: str, identity: str, *, links_only: bool = False) -> None:
    for table in ("names", "refers") if links_only else ("names", "refers", "things"):
        database.execute(f"delete from {table} where type = ? and id = ?", (kind, identity))


def _due(database: sqlite3.Connection, number: int, asked: Asked) -> Fault | None:
    for row in database.execute("select * from faults order by id").fetchall():
        fault = Fault(**json.loads(row["rule"]))
        if not _fits(fault, asked):
            continue
        if fault.once_per:
            key = f"{asked.method} {asked.type}" + (f" {asked.urn or asked.id}" if fault.once_per == "name" else "")
            if database.execute("insert or ignore into hits values (?, ?)", (row["id"], key)).rowcount:
                return fault
            continue
        database.execute("insert into hits values (?, ?)", (row["id"], str(number)))
        count = database.execute("select count(*) from hits where fault = ?", (row["id"],)).fetchone()[0]
        if fault.nth <= count < fault.nth + fault.times:
            return fault
    return None


def _fits(fault: Fault, asked: Asked) -> bool:
    kind = asked.type.startswith(fault.type[:-1]) if fault.type.endswith("*") else fault.type in ("", asked.type)
    return (
        kind
        and asked.method in ([fault.method] if fault.method else ["create", "read", "update", "delete", "invoke"])
        and fault.plugin in ("", asked.plugin)
        and fault.name in ("", asked.urn.split("::")[-1])
    )
