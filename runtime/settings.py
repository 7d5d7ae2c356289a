"""The only reader of the environment."""

import itertools
import os
import secrets
from collections.abc import Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import Field, ValidationError, field_validator

from contracts.base import Strict
from contracts.catalogue import Catalogue
from contracts.errors import InputError, first_wrong
from runtime.loopback import is_loopback, is_safe_url

PREFIX = "STANCH_"
SIGN_IN_CALLBACK = "/signin/callback"  # of the gateway: the redirect URI that is registered at the provider
NO_KEY = (ValueError, TypeError, UnsupportedAlgorithm)  # what the library says to a file that holds none


class Settings(Strict):
    """Everything that a process can be told. Each field is the environment variable ``STANCH_<FIELD>``.

    Attributes:
        home: Where the embedded default keeps its state, keys included.
        database_url: SQLAlchemy URL of the ledger; SQLite in ``home`` when empty.
        catalogue: Path of the service catalogue; ``catalogue.yaml`` in ``home`` when empty.
        policy: Path of the policy's rules; ``policy.cedar`` in ``home`` when empty, ours when there is none.
        temporal_address: Use this Temporal cluster and start no engine.
        temporal_namespace: The namespace there.
        temporal_binary: Path of the embedded engine's program; found by itself when empty.
        temporal_port: The embedded engine's port on loopback; 0 takes a free one.
        http_host: Where the gateway listens; local identity allows loopback only.
        http_port: The gateway's port; with 0 ``stanch up`` takes a free one.
        public_url: Where browsers and terminals reach the gateway, ``https://stanch.example.com``. OIDC needs
            it. It is https, unless it is this machine's loopback.
        identity: ``oidc``: people sign in at an OpenID Connect provider. ``local`` lets anybody who reaches
            the loopback port be anybody: for evaluation only.
        oidc_issuer: The provider's issuer URL, exactly as its discovery document says it.
        oidc_client_id: What the provider calls us.
        oidc_client_secret: Our secret there; empty for a public client, which PKCE alone protects.
        oidc_scopes: What we ask for; add what the provider wants before it tells groups.
        oidc_groups_claim: The claim that lists a person's groups.
        oidc_ca: PEM file of the authority behind the provider's certificate, where it is not a public one.
        fresh_minutes: Approving a plan of high risk needs a sign-in that is not older.
        token: API token that the terminal speaks with; local mode's own one when empty.
        alert_token: Bearer token that alert sources must send; an API token of the scope ``alerts`` will do
            too. Local mode asks for none when this is empty.
        smtp_host: The mail server for the channel ``email``; no mail is sent when empty.
        smtp_port: Its port.
        smtp_tls: ``starttls`` or ``implicit``, both check its certificate; ``none`` for one on this machine.
        smtp_user: Who signs in there; nobody when empty.
        smtp_password: With what.
        smtp_from: The sender of our mails.
        webhook_secret: Each POST of the channel ``webhook`` is signed by it; unsigned when empty.
        max_body: Largest accepted request body, in bytes.
        build_id: The worker's version; the product's own version when empty.
        worker_metrics_port: Serve the worker's ``/metrics`` on this loopback port; 0 serves none.
        solo: One person may both declare an incident and approve its plans. Only for teams of one.
        person: Who speaks at the terminal, an id from the catalogue's people; ``--as`` says it for once.
    """

    home: Path = Path(".stanch")
    database_url: str = ""
    catalogue: Path | None = None
    policy: Path | None = None
    temporal_address: str = ""
    temporal_namespace: str = "default"
    temporal_binary: str = ""
    temporal_port: int = 0
    http_host: str = Field("127.0.0.1", pattern=r"^[^\s]+$")
    http_port: int = Field(8420, ge=0, le=65535)
    public_url: str = Field("", pattern=r"^(https?://[^\s/?#@]+)?$")
    identity: Literal["local", "oidc"] = "local"
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = Field("", repr=False)
    oidc_scopes: str = Field("openid email", pattern=r"^openid( \S+)*$")
    oidc_groups_claim: str = "groups"
    oidc_ca: Path | None = None
    fresh_minutes: int = Field(15, ge=1, le=480)
    token: str = Field("", repr=False)
    alert_token: str = Field("", repr=False)
    smtp_host: str = ""
    smtp_port: int = Field(587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "implicit", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: str = Field("", repr=False)
    smtp_from: str = Field("stanch@localhost", pattern=r"^[^\s@]+@[^\s@]+$")
    webhook_secret: str = Field("", repr=False)
    max_body: int = Field(1024 * 1024, ge=1024)
    build_id: str = ""
    worker_metrics_port: int = 0
    solo: bool = False
    person: str = ""

    @field_validator("home")
    @classmethod
    def _is_plain(cls, home: Path) -> Path:
        if any(char in str(home) for char in "?#%"):
            raise ValueError(f"{home}: ?, # and % have a meaning in a database's URL; choose another folder")
        return home

    @field_validator("public_url", "oidc_issuer")
    @classmethod
    def _stays_between_us(cls, url: str) -> str:
        if url and not is_safe_url(url):
            raise ValueError(f"{url}: use https; plain http is for this machine's loopback only")
        return url

    @property
    def ledger_url(self) -> str:
        """Where the ledger is."""
        return self.database_url or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def catalogue_path(self) -> Path:
        """Where the service catalogue is."""
        return self.catalogue or self.home / "catalogue.yaml"

    @property
    def policy_path(self) -> Path:
        """Where the policy's rules are, if they are not ours."""
        return self.policy or self.home / "policy.cedar"

    @property
    def keys(self) -> Path:
        """Where the keys are: ``decision.pem`` only for the gateway, ``decision-*.pub`` for everybody."""
        return self.home / "keys"

    @property
    def signing_key_path(self) -> Path:
        """Where the gateway's private key is."""
        return self.keys / "decision.pem"

    @property
    def local_token_path(self) -> Path:
        """Where the terminal finds the token of local mode."""
        return self.home / "local.token"

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return f"http://{self.http_host}:{self.http_port}"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        InputError: A variable with our prefix is unknown or has a wrong value; the message names it.
    """
    source = os.environ if environ is None else environ  # noqa: TID251  (this is the one place)
    values = {name[len(PREFIX) :].lower(): value for name, value in source.items() if name.startswith(PREFIX)}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        unknown = "there is no such setting; docs/reference/settings.md has all"
        said = unknown if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(f"{name}: {said}") from error


def check_identity(settings: Settings) -> None:
    """Check that what the settings say of signing in belongs together.

    Raises:
        InputError: It does not; the message names the variable.
    """
    if settings.identity == "local":
        if settings.oidc_issuer:
            raise InputError(
                "STANCH_OIDC_ISSUER is set, but STANCH_IDENTITY=local lets anybody be anybody: set it to oidc"
            )
        if not is_loopback(settings.http_host):
            raise InputError(
                f"STANCH_HTTP_HOST={settings.http_host}: with STANCH_IDENTITY=local whoever reaches the port "
                "may be anybody, so it listens on loopback only: use 127.0.0.1, and a tunnel from elsewhere"
            )
        if settings.public_url and not is_loopback(urlsplit(settings.public_url).hostname or ""):
            raise InputError(
                f"STANCH_PUBLIC_URL={settings.public_url}: with STANCH_IDENTITY=local only this machine may "
                "reach the gateway"
            )
        return
    for name in ("public_url", "oidc_issuer", "oidc_client_id"):
        if not getattr(settings, name):
            raise InputError(f"STANCH_IDENTITY=oidc needs STANCH_{name.upper()}")


def exports_traces() -> bool:
    """Say whether OpenTelemetry's own variables name an endpoint for traces."""
    return _names("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def exports_metrics() -> bool:
    """Say whether OpenTelemetry's own variables name an endpoint for metrics."""
    return _names("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


def names_temporal() -> bool:
    """Say whether Temporal's own client configuration names a cluster."""
    return _names("TEMPORAL_ADDRESS", "TEMPORAL_CONFIG_FILE")


def _names(*variables: str) -> bool:
    return any(os.environ.get(name) for name in variables)  # noqa: TID251  (this is the one place)


def inherited() -> dict[str, str]:
    """Give the environment for a child process: ours, as it is."""
    return dict(os.environ)  # noqa: TID251  (this is the one place)


def environment(config: Settings) -> dict[str, str]:
    """Give the environment for a child process that shall have these settings, and ours besides."""
    told = {
        f"{PREFIX}{name.upper()}": str(value)
        for name, value in config.model_dump().items()
        if name in config.model_fields_set and value is not None
    }
    return inherited() | told


def secret(name: str) -> str:
    """Read a credential from the variable that the catalogue names.

    Raises:
        InputError: It is not set.
    """
    value = os.environ.get(name, "")  # noqa: TID251  (this is the one place)
    if not value:
        raise InputError(
            f"the environment variable {name} is not set; the catalogue says that it holds a credential"
        )
    return value


class _OneOfEachKey(yaml.SafeLoader):
    """Reads YAML as the safe loader does, and refuses a key that is there twice: the last one would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  (the base's)
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                where = f"line {key.start_mark.line + 1}"
                raise yaml.YAMLError(f"{where}: the key {key.value} is there twice")
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path, what: str, *, told_by: str = "") -> Any:
    """Read a YAML file that a person wrote.

    Args:
        path: Where it is.
        what: What it is called in the messages.
        told_by: The variable that says where it is.

    Raises:
        InputError: There is no file, or it is not YAML; the message names the first wrong place.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_OneOfEachKey)  # noqa: S506  (a safe loader)
    except OSError as error:
        raise InputError(f"{what} {path}: {error.strerror}{told_by and f'; set {told_by}'}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path}: not UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{what} {path}: not YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{what} {path}: nested too deeply to be a {what}") from error


def load_catalogue(path: Path) -> Catalogue:
    """Read the service catalogue.

    Raises:
        InputError: There is no file, or it is not a catalogue; the message names the first wrong place.
    """
    content = read_yaml(path, "service catalogue", told_by="STANCH_CATALOGUE")
    try:
        return Catalogue.model_validate(content or {})
    except ValidationError as error:
        raise InputError(f"service catalogue {path}: {first_wrong(error)}") from error


def write_private(path: Path, content: bytes) -> bytes:
    """Write a file that only its owner can read, unless it is there; give what it holds.

    Atomic: of two processes that start at once, both get the content of the one that came first.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def local_token(settings: Settings) -> str:
    """Give local mode's token, made on first use."""
    return write_private(settings.local_token_path, secrets.token_urlsafe(32).encode()).decode().strip()


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """Give the gateway's signing key, made on first use; its public half is there before it is given.

    Raises:
        InputError: The file is not an Ed25519 key, or the public half is missing and cannot be written.
    """
    key = _private_key(settings.signing_key_path)
    _publish(settings, key.public_key())
    return key


def rotate_key(settings: Settings) -> Ed25519PrivateKey:
    """Give a new signing key, in the place of the one before, whose public half stays.

    Whenever this dies there is a signing key whose public half is known, and another run finishes it.

    Raises:
        InputError: A key cannot be read or written.
    """
    signing_key(settings)
    following = settings.keys / "decision.next"
    with suppress(FileNotFoundError):  # another run was faster, and has put it in its place
        _publish(settings, _private_key(following).public_key())  # whoever verifies has to know it first
        following.replace(settings.signing_key_path)
    return signing_key(settings)


def _private_key(path: Path) -> Ed25519PrivateKey:
    fresh = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        key = load_pem_private_key(write_private(path, fresh), password=None)
    except NO_KEY as error:
        raise InputError(f"{path}: not an Ed25519 key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: not an Ed25519 key")
    return key


def _publish(settings: Settings, key: Ed25519PublicKey) -> None:
    """Let a public key be among those that are known."""
    if key in public_keys(settings):
        return
    content = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    paths = (settings.keys / f"decision-{number}.pub" for number in itertools.count(1))
    try:
        next(path for path in paths if write_private(path, content) == content)
    except OSError as error:
        raise InputError(
            f"{settings.keys}: the public half of decision.pem is missing and cannot be written:"
            f" {error.strerror}; put it there as decision-1.pub or another number"
        ) from error


def public_keys(settings: Settings) -> tuple[Ed25519PublicKey, ...]:
    """Give every public key that decisions may be signed with, old ones included.

    Raises:
        InputError: A file is not an Ed25519 public key.
    """
    return tuple(public_key_files(settings).values())


def public_key_files(settings: Settings) -> dict[Path, Ed25519PublicKey]:
    """Give each public key by its file.

    Raises:
        InputError: A file is not an Ed25519 public key.
    """
    keys = {}
    for path in sorted(settings.keys.glob("decision-*.pub")):
        try:
            key = load_pem_public_key(path.read_bytes())
        except NO_KEY as error:
            raise InputError(f"{path}: not an Ed25519 public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InputError(f"{path}: not an Ed25519 public key")
        keys[path] = key
    return keys
