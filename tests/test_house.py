"""The rules of this house that no linter knows."""

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import runpy
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import contracts
from activities import k8s
from contracts.actions import Action, ActionRequest, Probe, ProbeRequest, ResultT
from contracts.catalogue import Deployment, ServiceEnvironment, Signal
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident, Severity
from contracts.plans import Observation, Proposal
from playbooks import kit
from runtime.settings import Settings, load_catalogue

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ACTIVITIES = ROOT / "activities"
OURS = (
    *PYPROJECT["tool"]["importlinter"]["root_packages"],
    "worker",
    "tests",
    "benchmarks",
    "deploy",
    "docs",
)
PRODUCT = (*PYPROJECT["tool"]["importlinter"]["root_packages"], "deploy", "worker.py")
PROVIDERS = sorted(path.parent.name for path in ACTIVITIES.glob("*/models.py"))
PROVIDER_FILES = {"__init__.py", "models.py", "probes.py", "client.py", "fake.py"}
PRODUCT_LINES = 20_000
WORLD_LINES = 7_000
WORKFLOW_LINES = 600
LAW_LINES = 3
NAME = re.compile(r"[a-z0-9]+\.[a-z][a-z0-9]*(_[a-z0-9]+)*")


def tracked() -> list[Path]:
    """Give every file of the repository as Git knows it; a file that is being made counts too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a Git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def is_world(path: Path) -> bool:
    """Say whether a file is one of the worlds to test in: a provider's fake or the demo world."""
    parts = path.relative_to(ROOT).parts
    return path.stem.startswith("fake") or parts[:2] == ("deploy", "demo")


def code_lines(text: str) -> int:
    """Count the lines of code: blank lines, comments and docstrings are not code."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(
        number not in docstrings and not re.match(r"\s*(#|$)", line)
        for number, line in enumerate(text.splitlines(), start=1)
    )


def lines_of(*roots: str, worlds: bool = False) -> int:
    """Count the lines of code under some root files and folders."""
    files = [ROOT / root for root in roots if root.endswith(".py")]
    files += [path for root in roots for path in (ROOT / root).rglob("*.py")]
    return sum(code_lines(path.read_text(encoding="utf-8")) for path in files if is_world(path) is worlds)


def subclasses(base: type) -> list[Any]:
    """Give every class below one that the providers' folders define."""
    for path in sorted(ACTIVITIES.glob("*/*.py")):
        if path.stem in {"models", "actions", "probes"}:
            importlib.import_module(f"activities.{path.parent.name}.{path.stem}")
    found: list[type] = []
    waiting = [base]
    while waiting:
        below: list[type] = waiting.pop().__subclasses__()
        waiting += below
        found += below
    return [one for one in dict.fromkeys(found) if re.match(r"activities\.\w+\.", one.__module__)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_the_same_files(provider: str) -> None:
    """Who knows one provider's folder knows all; `actions.py` is there where it changes something."""
    files = {path.name for path in (ROOT / "activities" / provider).glob("*.py")}

    assert files - {"actions.py"} == PROVIDER_FILES


def test_providers_are_listed_as_independent() -> None:
    """A new provider's folder is in the contract that keeps providers apart."""
    independent = next(
        contract
        for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "independence"
    )

    assert sorted(independent["modules"]) == sorted(f"activities.{name}" for name in PROVIDERS)


def test_actions_say_what_a_second_call_does() -> None:
    """An action's docstring ends with what an operator needs at 3 a.m.: its Idempotent and Undo lines."""
    ends = re.compile(r"\n\s*Idempotent: \S[^\n]*(\n\s*\S[^\n]*)*\n\s*Undo: \S[^\n]*(\n\s*\S[^\n]*)*\s*\Z")
    silent = [one.__name__ for one in subclasses(Action) if not ends.search(one.__doc__ or "")]

    assert silent == []


def test_action_and_probe_names_are_provider_and_verb() -> None:
    """A name begins with its provider's folder, and no two are the same."""
    named = [(one.action, one) for one in subclasses(ActionRequest) if "action" in vars(one)]
    named += [(one.probe, one) for one in subclasses(ProbeRequest) if "probe" in vars(one)]
    names = [name for name, _ in named]

    assert [name for name in names if not NAME.fullmatch(name)] == []
    assert [name for name, one in named if one.__module__.split(".")[1] != name.split(".")[0]] == []
    assert sorted(set(names)) == sorted(names)


def test_every_request_has_its_action_or_probe() -> None:
    """A request model without the class that carries it out would be refused only at run time."""
    requests = [one for base in (ActionRequest, ProbeRequest) for one in subclasses(base)]
    wanted = {one for one in requests if not one.__subclasses__()}
    given = {one.request_type for base in (Action, Probe) for one in subclasses(base)}

    assert wanted == given


@pytest.mark.parametrize("package", PYPROJECT["tool"]["importlinter"]["root_packages"])
def test_root_packages_open_with_their_law(package: str) -> None:
    """A root package's docstring is its law, in three lines at most."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    law = ast.get_docstring(tree)

    assert law
    assert len(law.splitlines()) <= LAW_LINES


def test_names_are_ours_alone() -> None:
    """No other distribution in this environment brings one of our top-level names."""
    owners = importlib.metadata.packages_distributions()

    assert {name: owners[name] for name in OURS if set(owners.get(name, [])) - {"stanch"}} == {}


def test_contracts_make_nothing_up() -> None:
    """No model takes a default from a clock, from randomness or from anything else that is called."""
    for module in pkgutil.iter_modules(contracts.__path__, "contracts."):
        importlib.import_module(module.name)
    models = [BaseModel]
    made_up = []
    while models:
        model = models.pop()
        models += model.__subclasses__()
        if model.__module__.startswith("contracts."):
            made_up += [
                f"{model.__name__}.{name}"
                for name, field in model.model_fields.items()
                if field.default_factory is not None
            ]

    assert made_up == []


def test_workflow_code_stays_small() -> None:
    """The replay-sensitive code can be read in one sitting."""
    assert lines_of("workflows") < WORKFLOW_LINES


def test_the_product_stays_small() -> None:
    """Small is a feature: what a production process may import, and apart from it the worlds to test in."""
    assert lines_of(*PRODUCT) < PRODUCT_LINES
    assert lines_of(*PRODUCT, worlds=True) < WORLD_LINES


def test_no_product_module_imports_a_world() -> None:
    """A fake is for tests and the demo: nothing but the demo's own verb may import one."""
    files = [ROOT / root for root in PRODUCT if root.endswith(".py")]
    files += [path for root in PRODUCT for path in (ROOT / root).rglob("*.py")]
    names = re.compile(r"^\s*(from|import) (activities\.\w+\.fake|deploy\.demo)", re.MULTILINE)
    importing = [
        str(path.relative_to(ROOT))
        for path in files
        if not is_world(path) and names.search(path.read_text(encoding="utf-8"))
    ]

    assert importing == ["cli/demo.py"]


def test_playbooks_are_whole() -> None:
    """Every module of playbooks/ but the kit has a docstring, its own Params and a plan."""
    modules = {path.stem for path in (ROOT / "playbooks").glob("*.py")} - {"__init__", "kit"}
    whole = {book.name.replace("-", "_"): book.params.__name__ for book in kit.catalogue()}

    assert whole == dict.fromkeys(sorted(modules), "Params")


def test_files_name_no_machine_and_no_registry() -> None:
    """A clone works anywhere: no file names a path of one machine or the host of a package registry."""
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org", "proxy.golang" + ".org"]
    hosts += [
        "docker" + ".io",
        "ghcr" + ".io",
        "quay" + ".io",
        "deb.debian" + ".org",
        "static.crates" + ".io",
    ]
    words = re.compile("|".join(map(re.escape, ["/" + "work/", "/root" + "/", *hosts])))
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if (match := words.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]

    assert found == []


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """Give the reference pages as the code would write them now."""
    pages: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    return pages


def test_reference_pages_are_fresh(generated: dict[str, str]) -> None:
    """The committed pages are what the code says; `make docs` writes them."""
    reference = ROOT / "docs" / "reference"
    stale = [
        name
        for name, content in generated.items()
        if not (path := reference / name).exists() or path.read_text(encoding="utf-8") != content
    ]

    assert stale == []
    assert {str(path.relative_to(reference)) for path in reference.rglob("*.md")} == set(generated)


def test_every_action_has_its_page(generated: dict[str, str]) -> None:
    """Each action has a page with its arguments, permissions and ends, and the lists name all there is."""
    actions = {one.request_type.action for one in subclasses(Action) if hasattr(one, "request_type")}
    probes = {one.request_type.probe for one in subclasses(Probe) if hasattr(one, "request_type")}
    parts = ("## Arguments", "## Example", "## Least permissions", "## How it ends", "| timeout after |")

    assert {name for name in generated if name.startswith("actions/")} == {
        f"actions/{one}.md" for one in actions
    }
    assert [one for one in actions if f"(actions/{one}.md)" not in generated["actions.md"]] == []
    assert [one for one in probes if f"## {one}\n" not in generated["probes.md"]] == []
    assert [
        (one, part) for one in actions for part in parts if part not in generated[f"actions/{one}.md"]
    ] == []


def test_every_setting_is_explained(generated: dict[str, str]) -> None:
    """The page of settings has each variable that is read, with its meaning, and no other."""
    rows = re.findall(r"^\| `(STANCH_\w+)` \| .* \| (.+) \|$", generated["settings.md"], re.MULTILINE)

    assert [name for name, _ in rows] == [f"STANCH_{name.upper()}" for name in Settings.model_fields]


def test_the_example_catalogue_is_valid() -> None:
    """Who copies the example of the reference gets a catalogue that is read."""
    path = ROOT / "docs" / "reference" / "catalogue.example.yaml"

    assert load_catalogue(path).service("shop") is not None


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link and picture of a Markdown page is there."""
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in tracked()
        if page.suffix == ".md"
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not re.match(r"https?:|mailto:", link) and not (page.parent / link).exists()
    ]

    assert broken == []


def test_prose_is_plain() -> None:
    """Pages say neither "easy" nor "simple": who does not find it so is not helped by the word."""
    words = re.compile(r"\b(easy|easily|simple|simply|just|obviously)\b", re.IGNORECASE)
    found = [
        f"{page.relative_to(ROOT)}: {match.group()}"
        for page in tracked()
        if page.suffix == ".md"
        for match in words.finditer(page.read_text(encoding="utf-8"))
    ]

    assert found == []


class OneDeployment:
    """A look at a service with one deployment that has a number of pods."""

    def __init__(self, replicas: int) -> None:
        deployment = Deployment(cluster="main", namespace="shop", name="web")
        signal = Signal(prometheus="main", query="latency", healthy_below=1)
        self.service = ServiceEnvironment(deployments=(deployment,), signals={"latency": signal})
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self._state = k8s.DeploymentState(
            uid="u",
            generation=1,
            replicas=replicas,
            available=replicas,
            strategy="one by one",
            images=(),
            template_hash="h",
            template={},
            annotations={},
            annotated=False,
        )

    async def at(self, request: ProbeRequest[ResultT]) -> ResultT:
        """Be asked nothing: the page's playbook has no probe."""
        raise AssertionError(request)

    async def observe(self, request: ActionRequest) -> Observation:
        """Give the state."""
        del request
        return Observation(state=self._state.model_dump(mode="json"), guard={}, at=self.now)


@pytest.mark.parametrize(("replicas", "title"), [(4, "Scale shop from 4 to 6 pods"), (20, None)])
async def test_the_playbook_of_the_how_to_works(replicas: int, title: str | None) -> None:
    """Who copies the page's playbook gets one that proposes, and that stops where it says."""
    page = (ROOT / "docs" / "how-to" / "write-a-playbook.md").read_text(encoding="utf-8")
    module: dict[str, Any] = {"__name__": "playbooks.add_replicas"}
    exec(page.partition("```python\n")[2].partition("```")[0], module)  # noqa: S102  (our own page)
    incident = Incident(
        id="INC-1",
        title="slow",
        service="shop",
        environment="production",
        severity=Severity.SEV1,
        opened_at=datetime(2026, 3, 1, tzinfo=UTC),
    )

    planning = module["plan"](incident, module["Params"](), OneDeployment(replicas))

    if title is None:
        with pytest.raises(NothingToProposeError):
            await planning
    else:
        proposal: Proposal = await planning
        assert (proposal.title, len(proposal.steps)) == (title, 1)
