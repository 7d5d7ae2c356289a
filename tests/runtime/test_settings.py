"""The settings, the catalogue's file and the keys: what is read, and the sentence for what cannot be."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from contracts.errors import InputError
from runtime import settings
from runtime.settings import Settings


def test_defaults_without_an_environment() -> None:
    """Without any variable everything is in .stanch and nothing listens beyond loopback."""
    config = settings.load({})

    assert config == Settings()
    assert config.ledger_url == "sqlite:///.stanch/ledger.db"
    assert config.catalogue_path == Path(".stanch/catalogue.yaml")
    assert config.local_token_path == Path(".stanch/local.token")
    assert config.url == "http://127.0.0.1:8420"


def test_each_variable_is_a_field() -> None:
    """A variable with our prefix sets its field; another's is not looked at."""
    config = settings.load(
        {
            "STANCH_HOME": "state",
            "STANCH_HTTP_PORT": "9000",
            "STANCH_SOLO": "true",
            "STANCH_DATABASE_URL": "postgresql://db/stanch",
            "STANCH_CATALOGUE": "book.yaml",
            "HOME": "elsewhere",
        }
    )

    assert (config.home, config.http_port, config.solo) == (Path("state"), 9000, True)
    assert config.ledger_url == "postgresql://db/stanch"
    assert config.catalogue_path == Path("book.yaml")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "STANCH_HTTPPORT",
            "1",
            "STANCH_HTTPPORT: there is no such setting; docs/reference/settings.md has all",
        ),
        ("STANCH_HTTP_PORT", "many", "STANCH_HTTP_PORT: Input should be a valid integer"),
        ("STANCH_SOLO", "perhaps", "STANCH_SOLO: Input should be a valid boolean"),
        ("STANCH_IDENTITY", "ldap", "STANCH_IDENTITY: Input should be 'local'"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, sentence: str) -> None:
    """A misspelt variable or a wrong value stops the start with a sentence that names it."""
    with pytest.raises(InputError) as raised:
        settings.load({name: value})

    assert str(raised.value).startswith(sentence)


def test_children_get_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process was told reaches its children, and what it took for itself does, too."""
    monkeypatch.setenv("STANCH_SOLO", "true")
    monkeypatch.setenv("ANOTHER", "kept")
    told = settings.load().model_copy(update={"http_port": 9000})

    environ = settings.environment(told)

    assert environ["ANOTHER"] == "kept"
    assert settings.load(environ) == told


def test_the_alert_token_is_not_shown() -> None:
    """Whoever prints the settings prints no secret."""
    assert "hunter2" not in repr(settings.load({"STANCH_ALERT_TOKEN": "hunter2"}))


def test_a_missing_credential_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential that the catalogue names and nobody has set is asked for by its name."""
    monkeypatch.setenv("GIVEN", "secret")
    monkeypatch.setenv("EMPTY", "")

    assert settings.secret("GIVEN") == "secret"
    for name in ("EMPTY", "ABSENT"):
        with pytest.raises(InputError, match=f"the environment variable {name} is not set; the catalogue"):
            settings.secret(name)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory; set STANCH_CATALOGUE"),
        (b"services: [", "not YAML: "),
        (b"\xff\xfe\xfa", "not UTF-8"),
        (b"- a list", "Input should be"),
        (b"people: [{id: UPPER, name: x}]", "people.0.id: String should match"),
        (b"servces: []", "servces: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_catalogue_says_where(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """A catalogue that cannot be read stops the start with its path, the place and the reason."""
    path = tmp_path / "catalogue.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InputError) as raised:
        settings.load_catalogue(path)

    assert str(raised.value).startswith(f"service catalogue {path}: ")
    assert sentence in str(raised.value)


def test_an_empty_catalogue_is_a_catalogue(tmp_path: Path) -> None:
    """A file of comments only is where everybody begins."""
    path = tmp_path / "catalogue.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")

    assert settings.load_catalogue(path).services == ()


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    """Processes that start at once agree on one key and one token, and nobody else can read them."""
    config = Settings(home=tmp_path / "home")
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: settings.signing_key(config).private_bytes_raw(), range(8)))
        tokens = list(pool.map(lambda _: settings.local_token(config), range(8)))

    assert len(set(keys)) == len(set(tokens)) == 1
    assert [key.public_bytes_raw() for key in settings.public_keys(config)] == [
        settings.signing_key(config).public_key().public_bytes_raw()
    ]
    for path in (config.keys / "decision.pem", config.local_token_path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert config.keys.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in config.keys.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("wrong", ["another kind", "no key at all"])
def test_a_wrong_key_is_refused(tmp_path: Path, wrong: str) -> None:
    """A file that is not an Ed25519 key is named, for the signer and for those who verify."""
    config = Settings(home=tmp_path)
    config.keys.mkdir()
    private = public = b"nonsense"
    if wrong == "another kind":
        key = generate_private_key(SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (config.keys / "decision.pem").write_bytes(private)
    (config.keys / "decision-1.pub").write_bytes(public)

    with pytest.raises(InputError, match=r"decision\.pem: not an Ed25519 key"):
        settings.signing_key(config)
    with pytest.raises(InputError, match=r"decision-1\.pub: not an Ed25519 public key"):
        settings.public_keys(config)


def test_old_keys_still_verify(tmp_path: Path) -> None:
    """After a change of keys the old public half stays, and decisions that it signed stay provable."""
    config = Settings(home=tmp_path)
    settings.signing_key(config)
    (config.keys / "decision-1.pub").rename(config.keys / "decision-0.pub")
    (config.keys / "decision.pem").unlink()
    settings.signing_key(config)

    assert len({key.public_bytes_raw() for key in settings.public_keys(config)}) == 2


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STANCH_PUBLIC_URL", "http://stanch.example.com", "use https"),
        ("STANCH_PUBLIC_URL", "https://stanch.example.com/", "should match pattern"),
        ("STANCH_PUBLIC_URL", "https://a@stanch.example.com", "should match pattern"),
        ("STANCH_OIDC_ISSUER", "http://id.example.com", "use https"),
        ("STANCH_OIDC_ISSUER", "ftp://127.0.0.1", "use https"),
        ("STANCH_OIDC_SCOPES", "email", "should match pattern"),
        ("STANCH_FRESH_MINUTES", "0", "greater than or equal to 1"),
        ("STANCH_IDENTITY", "none", "'local' or 'oidc'"),
    ],
)
def test_addresses_that_anybody_could_be(name: str, value: str, said: str) -> None:
    """A provider or a gateway that anybody in between could be is refused, and so is half a setting."""
    with pytest.raises(InputError, match=f"{name}: .*{said}"):
        settings.load({name: value})


def test_secrets_are_not_shown() -> None:
    """The client's secret and the terminal's token are in no log line."""
    config = settings.load({"STANCH_OIDC_CLIENT_SECRET": "s3cret", "STANCH_TOKEN": "s3cret"})

    assert "s3cret" not in repr(config)
