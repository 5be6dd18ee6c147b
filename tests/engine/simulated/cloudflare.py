"""Cloudflare, simulated: its plugin's table, and its REST API (`answering`) for what the plugin does not do.

Both are one account: zones and their records, certificates and associations are in the cloud's file; the lists of
rules, of which several VREs have some, are in the server.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from threading import Lock, Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.engine.simulated.store import Cloud, Thing
from tests.engine.simulated.table import Call, CloudError, Kind, Provider, hexadecimal
from vre.edge import ranges
from vre.errors import Finding
from vre.provider.handler import Props

ZONE = "cloudflare:index/zone:Zone"
CERTIFICATE = "cloudflare:index/authenticatedOriginPullsHostnameCertificate:AuthenticatedOriginPullsHostnameCertificate"
ASSOCIATION = "association"
"""That Cloudflare shows a certificate at the origin of a name: what stays where it is not taken back."""
DAYS = (7, 30, 90, 365, 730, 1095, 5475)
LIMITS = {"http_config_settings": 10, "http_request_dynamic_redirect": 10, "http_request_firewall_custom": 5}
TOKEN = "a-token-of-the-zone-60418"
DOCUMENTATION = ("192.0.2.", "198.51.100.", "203.0.113.")
"""What stands for public addresses in tests, and is not public."""


def zone_of(call: Call, name: str) -> Thing:
    """Return the zone that a name lies in, which must be the token's."""
    fits = [
        zone for zone in call.things(ZONE) if name == zone.inputs["name"] or name.endswith(f".{zone.inputs['name']}")
    ]
    if not fits:
        raise CloudError(f"{name}: not allowed to access this zone (1010)")
    return fits[0]


class Record(Kind):
    """A name in the zone."""

    token = "cloudflare:index/dnsRecord:DnsRecord"
    unique = ("zoneId", "name", "type", "content")
    replace_on = frozenset({"zoneId"})
    refers: ClassVar = {"zoneId": ZONE}

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse times that cannot be."""
        if inputs.get("proxied") is True and inputs.get("ttl") != 1:
            yield Finding(key="ttl", reason="must be 1 where the record is proxied")

    def identify(self, call: Call) -> str:
        """Give 32 hexadecimal digits."""
        return hexadecimal(32)

    def outputs(self, call: Call) -> Props:
        """Refuse what Cloudflare cannot proxy."""
        self._refuse(call)
        return {"proxiable": True, "meta": "{}", "settings": {}, "privateRouting": False}

    def update(self, call: Call) -> Props:
        """Refuse it then, too."""
        self._refuse(call)
        return {}

    def _refuse(self, call: Call) -> None:
        zone = call.find(ZONE, call.inputs["zoneId"])
        if zone is None or zone_of(call, call.inputs["name"]).id != zone.id:
            raise CloudError(f"DNS Validation Error: {call.inputs['name']} is not in the zone (1004)")
        public = call.inputs["type"] != "A" or ip_address(call.inputs["content"]).is_global
        documentation = call.inputs["content"].startswith(DOCUMENTATION)
        if call.inputs.get("proxied") and not public and not documentation:
            raise CloudError(f"Target {call.inputs['content']} is not allowed for a proxied record. (9041)")


class OriginCertificate(Kind):
    """A certificate that Cloudflare trusts at the origin."""

    token = "cloudflare:index/originCaCertificate:OriginCaCertificate"
    replace_on = frozenset({"csr", "hostnames", "requestType", "requestedValidity"})

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse other times than there are."""
        if inputs.get("requestedValidity") not in DAYS:
            yield Finding(key="requestedValidity", reason=f"must be one of {DAYS}")

    def outputs(self, call: Call) -> Props:
        """Sign what was asked."""
        asked = x509.load_pem_x509_csr(call.inputs["csr"].encode())
        if not asked.is_signature_valid:
            raise CloudError("the CSR's signature is not valid (1101)")
        kind = {"origin-ecc": ec.EllipticCurvePublicKey, "origin-rsa": rsa.RSAPublicKey}[call.inputs["requestType"]]
        if not isinstance(asked.public_key(), kind):
            raise CloudError("the key does not fit the request type (1102)")
        for host in call.inputs["hostnames"]:
            zone_of(call, host)
        end = datetime.now(UTC) + timedelta(days=call.inputs["requestedValidity"])
        signed = sign(asked.public_key(), call.inputs["hostnames"], end)
        return {"certificate": signed, "expiresOn": f"{end:%Y-%m-%d %H:%M:%S} +0000 UTC"}


def sign(public: Any, hosts: Iterable[str], end: datetime) -> str:
    """Sign a certificate by an authority that nobody but Cloudflare trusts."""
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Origin CA")])
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(minutes=5))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=True)
        .sign(authority, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


class ClientCertificate(Kind):
    """A certificate that Cloudflare shows at the origin."""

    token = CERTIFICATE
    replace_on = frozenset({"certificate", "privateKey", "zoneId"})
    refers: ClassVar = {"zoneId": ZONE}

    def outputs(self, call: Call) -> Props:
        """Refuse an authority's certificate, and one whose key is another's."""
        [certificate] = x509.load_pem_x509_certificates(call.inputs["certificate"].encode())
        key: Any = serialization.load_pem_private_key(call.inputs["privateKey"].encode(), password=None)
        if certificate.public_key() != key.public_key():
            raise CloudError("certificate and private key do not fit (1414)")
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise CloudError("this is no leaf certificate (1415)")
        if len(call.things(CERTIFICATE)) >= 10:
            raise CloudError("only 10 hostname certificates per zone are allowed (1416)")
        return {"status": "active", "expiresOn": certificate.not_valid_after_utc.isoformat()}


class Pull(Kind):
    """That Cloudflare shows a certificate at the origin of a name."""

    token = "cloudflare:index/authenticatedOriginPulls:AuthenticatedOriginPulls"
    refers: ClassVar = {"zoneId": ZONE, "configs[*].certId": CERTIFICATE}

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse more than one name: the provider does."""
        if isinstance(inputs.get("configs"), list) and len(inputs["configs"]) != 1:
            yield Finding(key="configs", reason="must contain exactly one hostname association")

    def identify(self, call: Call) -> str:
        """Take the name."""
        return str(call.inputs["configs"][0]["hostname"])

    def outputs(self, call: Call) -> Props:
        """Keep the association under the name."""
        return self._put(call)

    def update(self, call: Call) -> Props:
        """Put it under the new name; the provider leaves the old one's where it is."""
        return self._put(call)

    def _put(self, call: Call) -> Props:
        [one] = call.inputs["configs"]
        zone_of(call, one["hostname"])
        call.cloud.put(Thing(type=ASSOCIATION, id=one["hostname"], inputs=one, outputs={}))
        return {"hostname": one["hostname"], "enabled": one["enabled"], "certStatus": "active"}

    def delete(self, call: Call) -> None:
        """Take the association back."""
        call.cloud.remove(ASSOCIATION, call.state["hostname"])


def find_zone(call: Call) -> Props:
    """Find a zone of the token by its name."""
    wanted = call.inputs["filter"]["name"]
    fits = [zone for zone in call.things(ZONE) if zone.inputs["name"] == wanted]
    if len(fits) != 1:
        raise CloudError("failed to find exactly one result")
    plan = fits[0].inputs["plan"]
    price = {"canSubscribe": False, "currency": "USD", "externallyManaged": False, "frequency": "", "price": 0}
    known = {**price, "id": plan, "isSubscribed": True, "legacyDiscount": False, "legacyId": plan, "name": plan}
    return {"id": fits[0].id, "zoneId": fits[0].id, "name": wanted, "status": "active", "paused": False, "plan": known}


class Account(Provider):
    """An account with two zones, one of the free plan."""

    name = "cloudflare"
    sdk = "pulumi_cloudflare"
    kinds = (Record, OriginCertificate, ClientCertificate, Pull)
    functions: ClassVar = {"cloudflare:index/getZone:getZone": find_zone}

    def given(self, config: Props) -> Iterable[Thing]:
        """Have the zones."""
        for name, plan in (("example.org", "free"), ("example.net", "pro")):
            yield Thing(
                type=ZONE, id=f"{name.encode().hex():0<32}"[:32], inputs={"name": name, "plan": plan}, outputs={}
            )


@dataclass(kw_only=True)
class Server:
    """What the REST API knows beside the cloud's file. `lost` counts answers that are not to arrive, by method."""

    cloud: Cloud
    address: str = ""
    rules: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, list[str]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Methods that are answered by no more than that the service is not available."""
    texts: list[dict[str, Any]] = field(default_factory=list)
    tell: Callable[[str, str, str], None] = lambda what, host, text: None
    """Whoever answers for DNS: told of each TXT record that comes (`set`) or goes (`clear`)."""
    asked: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    @property
    def env(self) -> dict[str, str]:
        """What leads our own plugin here."""
        return {"CLOUDFLARE_BASE_URL": self.address, "CLOUDFLARE_API_TOKEN": TOKEN}

    def of(self, zone: str) -> dict[str, list[str]]:
        """Return the references of all rules of a zone, by their phase."""
        return {
            phase: [rule["ref"] for rule in kept["rules"]]
            for (where, phase), kept in self.rules.items()
            if where == zone
        }


class Refusal(Exception):
    """What the API refuses: status, code, words."""


@contextmanager
def answering(cloud: Cloud) -> Iterator[Server]:
    """Answer on loopback like the REST API, as long as the context lasts."""
    pinned = ranges.pinned().networks
    lists = {f"ipv{v}_cidrs": [str(each) for each in pinned if each.version == v] for v in (4, 6)}
    server = Server(cloud=cloud, networks=lists)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Api,), {"known": server}))
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


class Api(BaseHTTPRequestHandler):
    """The REST API."""

    known: ClassVar[Server]

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        path = urlsplit(self.path)
        self.known.asked.append(f"{self.command} {path.path}")
        try:
            if self.command in self.known.down:
                raise Refusal(503, 1000, "service unavailable")
            with self.known.lock:
                if path.path != "/ips" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise Refusal(403, 10000, "Authentication error")
                result = _route(self.known, self.command, path.path, parse_qs(path.query), body)
            status, told = 200, {"success": True, "errors": [], "result": result}
        except Refusal as error:
            status, code, message = error.args
            told = {"success": False, "errors": [{"code": code, "message": message}], "result": None}
        if status == 200 and self.known.lost.get(self.command, 0) > 0:
            self.known.lost[self.command] -= 1
            self.close_connection = True
            return
        text = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _route(known: Server, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
    if (method, path) == ("GET", "/ips"):
        return known.networks
    zones = {zone.id: zone.inputs for zone in known.cloud.resources(ZONE, given=True)}
    if (method, path) == ("GET", "/zones"):
        wanted = query.get("name", [""])[0]
        return [_shown(key, zone) for key, zone in zones.items() if wanted in ("", zone["name"])]
    fits = re.fullmatch(r"/zones/([0-9a-f]{32})/(.+)", path)
    if not fits or fits[1] not in zones:
        raise Refusal(404, 7003, "no route for that URI")
    zone, rest = fits[1], fits[2].split("/")
    if rest[0] == "rulesets":
        return _rulesets(known, method, zone, zones[zone]["plan"], rest[1:], body)
    if rest[0] == "dns_records" and (method == "DELETE" or (body or {}).get("type") == "TXT"):
        return _texts(known, method, zones[zone]["name"], rest[1:], body)
    return _others(known, method, zones[zone]["name"], "/".join(rest), query)


def _texts(known: Server, method: str, zone: str, rest: list[str], body: Any) -> Any:
    """Add or remove a TXT record. Texts stand in quotation marks."""
    if method == "POST":
        if not body["name"].endswith(f".{zone}") or body.get("proxied"):
            raise Refusal(400, 1004, "DNS Validation Error")
        if any((each["name"], each["content"]) == (body["name"], body["content"]) for each in known.texts):
            raise Refusal(400, 81058, "An identical record already exists.")
        known.texts.append({"id": secrets.token_hex(16), **body})
        known.tell("set", body["name"], body["content"].strip('"'))
        return known.texts[-1]
    gone = [each for each in known.texts if each["id"] == rest[0]]
    if not gone:
        raise Refusal(404, 81044, "Record does not exist.")
    known.texts.remove(gone[0])
    known.tell("clear", gone[0]["name"], gone[0]["content"].strip('"'))
    return {"id": rest[0]}


def _shown(key: str, zone: Props) -> Props:
    return {"id": key, "name": zone["name"], "status": "active", "paused": False, "plan": {"legacy_id": zone["plan"]}}


def _others(known: Server, method: str, zone: str, what: str, query: dict[str, list[str]]) -> Any:
    if method == "POST":
        raise Refusal(400, 1004, "validation error: it is empty")
    if what == "dns_records":
        records = [*(thing.outputs for thing in known.cloud.resources(Record.token, given=True)), *known.texts]
        wanted = {"type": query.get("type", [None])[0], "name": query["name"][0]}
        return [each for each in records if all(value in (None, each[key]) for key, value in wanted.items())]
    if what == "origin_tls_client_auth/hostnames/certificates":
        return [{"id": thing.id, "status": "active"} for thing in known.cloud.resources(CERTIFICATE, given=True)]
    if what == "ssl/certificate_packs":
        return [{"status": "active", "hosts": [zone, f"*.{zone}"]}]
    raise Refusal(404, 7003, f"no route for {what}")


def _rulesets(known: Server, method: str, zone: str, plan: str, rest: list[str], body: Any) -> Any:
    if method == "POST" and not rest:
        return _made(known, zone, body)
    if method == "GET" and rest[0] == "phases":
        found = known.rules.get((zone, rest[1]))
        if found is None:
            raise Refusal(404, 10003, f"could not find entrypoint ruleset in the {rest[1]} phase")
        return found
    kept = [each for (where, _), each in known.rules.items() if where == zone and each["id"] == rest[0]]
    if not kept:
        raise Refusal(404, 10001, "no such ruleset")
    return _changed(kept[0], method, plan, rest[2:], body)


def _made(known: Server, zone: str, body: Any) -> Any:
    key = (zone, body["phase"])
    if key in known.rules:
        raise Refusal(400, 20217, "exceeded maximum number 1 of zone rulesets in the phase")
    known.rules[key] = {"id": secrets.token_hex(16), **body, "rules": list(body["rules"])}
    return known.rules[key]


def _changed(kept: dict[str, Any], method: str, plan: str, rest: list[str], body: Any) -> Any:
    if method == "POST":
        _refuse(kept, plan, body)
        kept["rules"].append({"id": secrets.token_hex(16), "version": "1", **body})
        return kept
    at = [index for index, rule in enumerate(kept["rules"]) if rule["id"] == rest[0]]
    if not at:
        raise Refusal(404, 10002, "no such rule")
    if method == "DELETE":
        kept["rules"].pop(at[0])
        return kept
    kept["rules"][at[0]] = {"id": rest[0], "version": "2", **body}
    return kept


def _refuse(kept: dict[str, Any], plan: str, rule: Any) -> None:
    most = {**LIMITS, "http_ratelimit": 1 if plan == "free" else 2}.get(kept["phase"], 100)
    if len(kept["rules"]) >= most:
        raise Refusal(400, 20217, f"exceeded the maximum number of rules in the phase {kept['phase']}: {most}")
    if plan == "free" and kept["phase"] == "http_ratelimit" and "http.host" in rule["expression"]:
        raise Refusal(400, 20120, "not entitled: the use of field http.host is not allowed")
    if plan == "free" and rule["action"] == "execute":
        raise Refusal(400, 20120, "not entitled to use this managed ruleset")


PROVIDER = Account
