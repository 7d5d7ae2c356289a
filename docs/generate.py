"""Write the reference pages from the code: `make docs`. A test fails when a page is not what this gives."""  # noqa: INP001  (a script)

import inspect
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import worker
from activities.k8s.models import template_hash
from authority.decisions import Signer
from contracts import catalogue
from contracts.actions import Action
from contracts.catalogue import Catalogue
from contracts.messages import PreviewAnswer, PreviewRequest
from gateway.app import build
from ledger import Ledger
from playbooks import kit
from runtime.clock import utc_now
from runtime.settings import PREFIX, Settings
from tests.campaigns.actions import ANSWERS, NONE, ROWS, WORDS, Retry, expected

FOLDER = Path(__file__).parent / "reference"
DEPLOY = Path(__file__).parent.parent / "deploy"
MADE = "<!-- Made by `make docs` from the code. Do not edit. -->\n"
Schema = dict[str, Any]

# One call of each action, as a plan has it.
IN_CLUSTER = {"cluster": "main", "namespace": "shop", "name": "web"}
IN_REGION = {"account": "main", "region": "eu-west-1"}
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "registry.example/shop/web:41"}]},
}
PLAN_ARN = "arn:aws:arc-region-switch::123456789012:plan/shop:0abc12"
EXAMPLES: dict[str, dict[str, Any]] = {
    "aws.execute_region_switch": {
        "account": "main",
        "region": "us-east-1",
        "plan": PLAN_ARN,
        "target_region": "us-east-1",
        "version": "7",
        "after": "execution-12",
    },
    "aws.roll_back_service": {
        **IN_REGION,
        "cluster": "shop",
        "service": "web",
        "task_definition": "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop-web:41",
    },
    "aws.set_desired_capacity": {**IN_REGION, "group": "shop-web", "desired": 8, "maximum": 10},
    "aws.set_record_weights": {
        "account": "main",
        "zone": "Z0SHOPEXAMPLE",
        "name": "www.shop.example",
        "weights": {"ireland": 0, "virginia": 100},
    },
    "aws.set_routing_controls": {
        "account": "main",
        "panel": "shop",
        "states": {"ireland": False, "virginia": True},
    },
    "aws.set_scalable_target": {**IN_REGION, "resource": "service/shop/web", "minimum": 4, "maximum": 12},
    "aws.set_service_count": {**IN_REGION, "cluster": "shop", "service": "web", "count": 8},
    "aws.switch_global_cluster": {
        "account": "main",
        "region": "us-east-1",
        "cluster": "shop",
        "writer": "arn:aws:rds:us-east-1:123456789012:cluster:shop-virginia",
    },
    "http.call_hook": {"hook": "shed-load", "desired": {"recommendations": "off"}},
    "k8s.restart_deployment": {**IN_CLUSTER, "restarted_at": "2026-01-31T03:04:05Z"},
    "k8s.roll_back_deployment": {
        **IN_CLUSTER,
        "revision": 41,
        "template_hash": template_hash(TEMPLATE),
        "template": TEMPLATE,
    },
    "k8s.scale_deployment": {**IN_CLUSTER, "replicas": 12},
    "k8s.set_autoscaler_limits": {**IN_CLUSTER, "autoscaler": "web", "minimum": 6, "maximum": 20},
    "k8s.set_sync": {**IN_CLUSTER, "namespace": "argocd", "kind": "application", "suspended": True},
    "launchdarkly.set_flag": {
        "project": "shop",
        "environment": "production",
        "key": "new-search",
        "on": False,
    },
}
# What is said of a field whose model leaves it at its name.
FIELDS = {
    "account": "name of the account in the catalogue",
    "cluster": "name of the cluster",
    "count": "how many tasks run",
    "desired": "how many instances serve",
    "dimension": "what of it is kept within the limits",
    "dimensions": "which one of the metric's series",
    "environment": "key of the environment",
    "group": "name of the Auto Scaling group",
    "key": "key of the flag",
    "keys": "keys of the flags",
    "kind": "what the target is",
    "maximum": "the upper limit, a number of pods or tasks",
    "minimum": "the lower limit, a number of pods or tasks",
    "metric": "name of the metric",
    "mode": "with or without loss: ungraceful does not wait for the side that fails",
    "name": "name of the target",
    "namespace": "where it is",
    "panel": "name of the control panel in the catalogue",
    "project": "key of the project",
    "region": "whose endpoint is called",
    "replicas": "how many pods there are",
    "resource": "what is looked at",
    "service": "name of the ECS service",
    "target_region": "the region to be activated or deactivated",
    "type": "the records' type",
    "within": "how long ago at most",
}
# The manifests of deploy/kubernetes/target that each action needs.
ROLES = {
    "k8s.restart_deployment": ("observe", "change-template"),
    "k8s.roll_back_deployment": ("observe", "change-template"),
    "k8s.scale_deployment": ("observe", "scale"),
    "k8s.set_autoscaler_limits": ("observe", "scale"),
    "k8s.set_sync": ("sync",),
}
OTHER_PERMISSIONS = {
    "http.call_hook": "The secret in the variable that the catalogue's hook names as `secret_env`, and a way"
    " to its URLs. What the endpoint may do is the team's own matter.",
    "launchdarkly.set_flag": "An API token with a custom role that allows `viewProject` on `proj/<project>`"
    " and `updateOn` on `proj/<project>:env/<environment>:flag/<key>`.",
}


def pages() -> dict[str, str]:
    """Give each page's name and content."""
    actions = worker.registry(Catalogue(), secret=str).actions
    return {
        "actions.md": actions_page(actions),
        **{f"actions/{name}.md": action_page(action) for name, action in sorted(actions.items())},
        "probes.md": probes_page(),
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


def actions_page(actions: Mapping[str, Action[Any]]) -> str:
    """Give the list of the actions."""
    rows = []
    for name, action in sorted(actions.items()):
        what, _, undo = _told(action)
        rows.append(
            (f"[`{name}`](actions/{name}.md)", _first(what), action.risk.value, _sentence(_first(undo)))
        )
    return "\n".join(
        [
            "# Actions",
            MADE,
            "Everything that this version can change. What is not here cannot be done. Each one is absolute:",
            "it says how the target is to be, never what to add to it. What only looks are",
            "[probes](probes.md).",
            "",
            *_table(("action", "what it does", "risk", "undo"), rows),
            "",
            "`make campaign` lets each of them meet every answer of its provider, repeated in every way.",
            "",
        ]
    )


def action_page(action: Action[Any]) -> str:
    """Give the page of one action."""
    request = action.request_type
    what, idempotent, undo = _told(action)
    example = request.model_validate(EXAMPLES[request.action]).call()
    target = example.target
    asked = (inspect.getdoc(request) or "").split("\n\nAttributes:")[0]
    facts = [
        (
            "target",
            f"a `{target.kind}` of `{target.provider}`, for example `{target}`; the catalogue names it",
        ),
        ("risk", f"{action.risk.value}; a playbook may raise it"),
        ("idempotent", _sentence(idempotent)),
        ("undo", _sentence(undo)),
        ("in flight", f"a call can be on its way for {action.in_flight.total_seconds():g} s"),
    ]
    return "\n".join(
        [
            f"# {request.action}",
            MADE,
            what,
            "",
            *_table(("", ""), facts),
            "",
            "## Arguments",
            "",
            asked,
            "",
            *_arguments(request),
            "",
            "## Example",
            "",
            "As a plan has it:",
            "",
            "```json",
            json.dumps(example.model_dump(mode="json"), indent=2),
            "```",
            "",
            "## Least permissions",
            "",
            *_permissions(request.action),
            "",
            "## How it ends",
            "",
            *_ends(request.action),
            "",
        ]
    )


def probes_page() -> str:
    """Give the page of the probes."""
    lines = [
        "# Probes",
        MADE,
        "What only looks. A playbook looks through them. Those that give a `Reading` can be a signal too: a",
        "number at a time, or no data. What changes something are [actions](actions.md).",
        "",
    ]
    for name, probe in sorted(worker.registry(Catalogue(), secret=str).probes.items()):
        seen = inspect.signature(type(probe).look).return_annotation
        lines += [f"## {name}", "", _plain(inspect.getdoc(type(probe)) or ""), ""]
        lines += [*_arguments(probe.request_type), "", f"Gives `{seen.__name__}`: {_first(_doc(seen))}", ""]
    return "\n".join(lines)


def _told(action: Action[Any]) -> tuple[str, str, str]:
    """Split an action's docstring: what it does, what a second call does, how it is taken back."""
    what, _, rest = _doc(type(action)).partition("\n\nIdempotent: ")
    idempotent, _, undo = rest.partition("\nUndo: ")
    return what, *(" ".join(text.split()) for text in (idempotent, undo))  # type: ignore[return-value]


def _doc(of: type) -> str:
    return _plain(inspect.getdoc(of) or "").split("\n\nAttributes:")[0]


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _first(text: str) -> str:
    """Give the first sentence."""
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _arguments(model: type[BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    told: dict[str, str] = {}
    for one in reversed(model.__mro__):
        told |= _attributes(one)
    rows = []
    for name, field in model.model_fields.items():
        what = schema["properties"][name]
        default = "required" if field.is_required() else _default(field.default)
        kind = f"{_kind(what, schema.get('$defs', {}))}{_limits(what)}"
        rows.append((f"`{name}`", kind, default, told.get(name) or _sentence(FIELDS[name])))
    return _table(("argument", "type", "default", "meaning"), rows)


def _limits(schema: Schema) -> str:
    """Say between which numbers."""
    one = next(
        (one for one in [schema, *schema.get("anyOf", [])] if {"minimum", "maximum"} <= one.keys()), None
    )
    return f", {one['minimum']} to {one['maximum']}" if one else ""


def _permissions(action: str) -> list[str]:
    provider, _, verb = action.partition(".")
    if provider == "k8s":
        paths = [DEPLOY / "kubernetes" / "target" / f"{name}.yaml" for name in ROLES[action]]
        rules = [
            rule
            for path in paths
            for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))
            for rule in one.get("rules", ())
        ]
        files = " and ".join(
            f"[`{path.name}`](../../../deploy/kubernetes/target/{path.name})" for path in paths
        )
        dumped = yaml.safe_dump({"rules": rules}, sort_keys=False, default_flow_style=None, width=100)
        return [
            f"A Role in the namespace of the target, from {files}:",
            "",
            "```yaml",
            dumped.rstrip(),
            "```",
        ]
    if provider == "aws":
        name = f"{verb.replace('_', '-')}.json"
        policy = (DEPLOY / "aws" / name).read_text(encoding="utf-8").rstrip()
        look = "[`observe.json`](../../../deploy/aws/observe.json)"
        intro = f"To look, {look}. To change, [`{name}`](../../../deploy/aws/{name}), which names examples:"
        return [intro, "", "```json", policy, "```"]
    return [OTHER_PERMISSIONS[action]]


def _ends(action: str) -> list[str]:
    """Give how each answer ends; kinds of change that end alike share a column."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in (row for row in ROWS if row.action == action):
        ends = tuple(
            "" if (action, row.case, answer) in NONE else WORDS[expected(row, Retry.AGAIN, answer)]
            for answer in ANSWERS
        )
        alike.setdefault(ends, []).append(row.case)
    heads = ["it ends"] if len(alike) == 1 else [", ".join(cases) for cases in alike.values()]
    rows = [
        (answer, text, *(ends[number] for ends in alike))
        for number, (answer, text) in enumerate(ANSWERS.items())
    ]
    return [
        *_table(("answer", "what happens", *heads), rows),
        "",
        "*Done* is one change by the provider's own log, none where it was so already. *Not done* is none.",
        "*In doubt* stops and asks a person. After a lost answer the target is read before anything is sent",
        "again. When the worker is lost, a new one begins with that reading; a refusal that was lost with it",
        "is asked for once more. `make campaign` holds all of it against the log.",
    ]


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
        kind = f"list of {_kind(schema.get('items') or schema['prefixItems'][0], named)}"
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
    (FOLDER / "actions").mkdir(exist_ok=True)
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
