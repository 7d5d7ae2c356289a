"""Write the reference pages from the code: `make docs`. A test fails when a page is not what this gives."""  # noqa: INP001  (a script)

import inspect
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from authority.decisions import Signer
from contracts import catalogue
from contracts.catalogue import Catalogue
from contracts.messages import PreviewAnswer, PreviewRequest
from gateway.app import build
from ledger import Ledger
from playbooks import kit
from runtime.clock import utc_now
from runtime.settings import PREFIX, Settings

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by `make docs` from the code. Do not edit. -->\n"
Schema = dict[str, Any]


def pages() -> dict[str, str]:
    """Give each page's name and content."""
    return {
        "settings.md": settings_page(),
        "catalogue.md": catalogue_page(),
        "http.md": http_page(),
        "playbooks.md": playbooks_page(),
    }


def settings_page() -> str:
    """Give the page of environment variables."""
    meaning = _attributes(Settings)
    rows = [
        (f"`{PREFIX}{name.upper()}`", _default(field.default), meaning[name])
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            MADE,
            "Every process reads its settings from environment variables, once, at its start.",
            f"An unknown variable with the prefix `{PREFIX}` is an error: a misspelt one is not ignored.",
            "",
            *_table(("variable", "default", "meaning"), rows),
            "",
            "Others that are read:",
            "",
            "- `TEMPORAL_ADDRESS`, `TEMPORAL_CONFIG_FILE` and the rest of Temporal's own client",
            "  configuration: address, TLS, API key and namespace of a cluster.",
            "- `OTEL_EXPORTER_OTLP_ENDPOINT` and the rest of OpenTelemetry's own: telemetry is exported",
            "  when it is set.",
            "- Every variable that the service catalogue names as the place of a credential.",
            "",
        ]
    )


def catalogue_page() -> str:
    """Give the page of the service catalogue."""
    example = (FOLDER / "catalogue.example.yaml").read_text(encoding="utf-8")
    lines = [
        "# The service catalogue",
        MADE,
        "One YAML file says which deployments, flags, signals and people belong to a service.",
        "An alert's labels select an entry of it. Only the catalogue names targets: a label never reaches a",
        "provider's call. An unknown field is an error and is named. `stanch doctor` checks the file.",
        "",
        "A duration is a number of seconds or ISO 8601, for example `PT5M`.",
        "",
        "```yaml",
        example.rstrip(),
        "```",
        "",
    ]
    for model in _models(Catalogue):
        schema = model.model_json_schema()
        meaning = {name: text for base in model.__mro__ for name, text in _attributes(base).items()}
        rows = [
            (
                f"`{name}`",
                _kind(schema["properties"][name], schema.get("$defs", {})),
                "required" if field.is_required() else _default(field.default),
                meaning.get(name, ""),
            )
            for name, field in model.model_fields.items()
        ]
        doc = inspect.getdoc(model) or ""
        lines += [f"## {model.__name__}", "", doc.split("\n\nAttributes:")[0], ""]
        lines += [*_table(("field", "type", "default", "meaning"), rows), ""]
    return "\n".join(lines)


def http_page() -> str:
    """Give the page of the HTTP interface."""
    api = _openapi()
    lines = [
        "# The HTTP interface",
        MADE,
        "`/openapi.json` is the same for programs. The terminal uses nothing else.",
        "",
        "- Send `Authorization: Bearer <token>`: local mode's token is in `<STANCH_HOME>/local.token`.",
        "  An API token (`stanch token create`) does what its scopes say, for its person.",
        "- To give an order with local mode's token, say who you are: `X-Stanch-Person: ada`.",
        "- `/livez`, `/readyz`, `/metrics` and `/openapi.json` need neither.",
        '- Every error is `{"error": "<one sentence>"}`: 400, 413, 415 or 422 for what cannot be used,',
        "  401 and 403 for who may not, 404, 409 for who was second, and 503 with `Retry-After` for what may",
        "  be tried again.",
        "",
    ]
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            lines += [
                f"## {method.upper()} {path}",
                "",
                operation.get("description", operation["summary"]),
                "",
            ]
            lines += _inputs(operation, api["components"]["schemas"])
            lines += [f"Gives {_gives(operation)}.", ""]
    return "\n".join(lines)


def playbooks_page() -> str:
    """Give the page of the playbooks."""
    lines = [
        "# Playbooks",
        MADE,
        "In the order in which they are tried. `stanch playbook list` gives the same.",
        "",
    ]
    for book in kit.catalogue():
        lines += [f"## {book.name}", "", book.summary, ""]
        lines += [book.description, ""] if book.description else []
        matches = [
            " and ".join(
                f"{name} is {' or '.join(value) if isinstance(value, tuple) else f'`{value}`'}"
                for name, value in (("signal", one.signal), ("name", one.name), ("severity", one.severity))
                if value
            )
            for one in book.matches
        ]
        lines += [f"- Risk: {book.risk}", f"- For alerts whose {'; or whose '.join(matches)}", ""]
        schema = book.params.model_json_schema()
        rows = [
            (
                f"`{name}`",
                _kind(schema["properties"][name], schema.get("$defs", {})),
                _default(field.default),
                field.description or "",
            )
            for name, field in book.params.model_fields.items()
        ]
        lines += [*_table(("parameter", "type", "default", "meaning"), rows), ""] if rows else []
    return "\n".join(lines)


def _attributes(model: type) -> dict[str, str]:
    """Read the `Attributes:` of a docstring."""
    part = (inspect.getdoc(model) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", part, re.MULTILINE)
    return {name: " ".join(text.replace("``", "`").split()) for name, text in entries}


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Give the catalogue's models: the file first, the rest as they are written."""
    yield model
    for other in vars(catalogue).values():
        ours = inspect.isclass(other) and other.__module__ == catalogue.__name__
        if ours and issubclass(other, BaseModel) and other is not model and other.__name__[0] != "_":
            yield other


def _default(value: object) -> str:
    if value is PydanticUndefined or value is None or value in ("", (), {}) or isinstance(value, BaseModel):
        return ""
    plain = value.total_seconds() if hasattr(value, "total_seconds") else value
    return f"`{plain:g} s`" if plain is not value else f"`{str(value).lower() if value is False else value}`"


def _kind(schema: Schema, named: Schema) -> str:
    """Name a JSON schema in a word or two; an enumeration by its values."""
    kind = str(schema.get("format") or schema.get("type", "any"))
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        kind = _kind(named[name], {}) if "enum" in named.get(name, {}) else name
    elif "anyOf" in schema:
        kind = " or ".join(_kind(one, named) for one in schema["anyOf"] if one.get("type") != "null")
    elif "enum" in schema or "const" in schema:
        kind = " or ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    elif kind == "array":
        kind = f"list of {_kind(schema['items'], named)}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"name to {_kind(schema['additionalProperties'], named)}"
    elif str(schema.get("pattern", "")).startswith("^[a-z0-9]"):
        kind = "slug"
    return kind


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in cells]


def _inputs(operation: Schema, schemas: Schema) -> list[str]:
    rows = [
        (f"`{one['name']}`", one["in"], _kind(one["schema"], schemas), "required" if one["required"] else "")
        for one in operation.get("parameters", [])
        if one["in"] != "path"
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in body:
        model = schemas[str(body["$ref"]).rpartition("/")[2]]
        rows += [
            (
                f"`{name}`",
                "body",
                _kind(schema, schemas),
                "required" if name in model.get("required", []) else "",
            )
            for name, schema in model["properties"].items()
        ]
    return [*_table(("input", "in", "type", ""), rows), ""] if rows else []


def _gives(operation: Schema) -> str:
    status = next(status for status in operation["responses"] if status.startswith("2"))
    content = operation["responses"][status].get("content", {})
    json = content.get("application/json")
    if json:
        return f"{status}: {_kind(json['schema'], {})}"
    return f"{status}: {next(iter(content), 'text/event-stream')}"


class _NoEngine:
    """An engine for an application that is only described."""

    async def check(self) -> None:
        """Say nothing."""

    async def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Propose nothing."""
        return PreviewAnswer(note=request.playbook)


def _openapi() -> Schema:
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        ledger = Ledger.open(settings.ledger_url, clock=utc_now)
        app = build(
            settings,
            ledger,
            Catalogue(),
            Signer(Ed25519PrivateKey.generate()),
            wake=lambda: None,
            engine=_NoEngine(),
            playbooks=(),
        )
        ledger.close()
        return app.openapi()


if __name__ == "__main__":
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
