"""A catalogue that cannot work is refused where it is read, in one sentence that names the place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.errors import InputError
from runtime import settings

SERVICE = """
prometheus: [{{name: main, url: "{url}"}}]
services:
  - name: shop
    environments:
      production:
        signals:
          errors: {{prometheus: main, query: "{query}", healthy_below: {below}, every: {every}, hold: {hold}}}
"""
GOOD = {"url": "http://127.0.0.1:9090", "query": "up", "below": "0.5", "every": "5", "hold": "60"}
HOOK = {"name": "h", "url": "https://h", "secret_env": "S", "blast_radius": "All."}
MOVE = {"away_from": "a", "to": "b", "steps": [{"title": "t", "action": "k8s.x", "arguments": {}}]}
PLACE = {"cluster": "demo", "namespace": "shop", "name": "web"}
WARNED = {"name": "k8s.events", "arguments": PLACE | {"within": "PT10M"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"every": "-5"}, "signals.errors.every"),
        ({"every": "0"}, "signals.errors.every"),
        ({"hold": "600"}, "hold is at most within"),
        ({"below": ".nan"}, "signals.errors.healthy_below"),
        ({"query": ""}, "signals.errors.query"),
        ({"url": "ftp://x y"}, "prometheus.0.url"),
    ],
)
def test_values_that_cannot_work(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    """A span, a threshold, a query or an address that cannot work is named."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(SERVICE.format(**GOOD), encoding="utf-8")
    settings.load_catalogue(path)
    path.write_text(SERVICE.format(**GOOD | changes), encoding="utf-8")

    with pytest.raises(InputError, match=said):
        settings.load_catalogue(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("people: []\nclusters: []\npeople: []\n", "line 3: the key people is there twice"),
        ("[" * 5000, "nested too deeply"),
        ("people: [{id: ada, name: A}, {id: ada, name: B}]", "people: ada is there twice"),
    ],
)
def test_files_that_say_two_things(tmp_path: Path, text: str, said: str) -> None:
    """A key or a name that is there twice, and a file without end, are refused."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=said):
        settings.load_catalogue(path)


@pytest.mark.parametrize("home", ["a?b", "a#b", "a%20b"])
def test_home_with_a_meaning_in_urls(home: str) -> None:
    """A state folder that a database's URL would read as something else is refused."""
    with pytest.raises(InputError, match=r"STANCH_HOME.*choose another folder"):
        settings.load({"STANCH_HOME": home})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"deployments": [PLACE]},
            "service shop, environment production names demo, and clusters has no demo",
        ),
        ({"syncs": [PLACE | {"kind": "application"}]}, "names demo, and clusters has no demo"),
        ({"flags": [{"project": "p", "environment": "e", "key": "k"}]}, "and launchdarkly has no p"),
        ({"aws": {"global_clusters": [{"account": "main", "name": "db"}]}}, r"and aws\.accounts has no main"),
        ({"aws": {"panels": ["cells"]}}, r"and aws\.panels has no cells"),
        ({"signals": {"up": {"prometheus": "p", "query": "up", "healthy_above": 0}}}, "prometheus has no p"),
        ({"hooks": [HOOK, HOOK]}, "hooks: h is there twice"),
        ({"hooks": [HOOK | {"signals": ["up"], "desired": {"on": 1}}]}, "hook h is for up, which is not in"),
        (
            {"hooks": [HOOK | {"undo": {"hook": "x", "desired": {"on": 0}}}]},
            "hook h is undone by x, which is",
        ),
        ({"regions": ["a"], "failover": {"moves": [MOVE]}}, "failover: region b is not in regions"),
        (
            {"regions": ["a", "b"], "failover": {"moves": [MOVE | {"to": "a"}]}},
            "a move away from a goes to a",
        ),
        ({"regions": ["a", "b"], "failover": {"moves": [MOVE], "regions_on": 2}}, "of 2 regions, 2 never"),
        (
            {"regions": ["a", "b"], "failover": {"moves": [MOVE | {"ready": [WARNED]}]}},
            "above zero means good here, and k8s.events counts warnings; ask k8s.rollout_status",
        ),
        (
            {"regions": ["a", "b"], "failover": {"moves": [MOVE], "serving": {"b": WARNED}}},
            "above zero means good here, and k8s.events counts warnings; ask k8s.rollout_status",
        ),
    ],
)
def test_environments_that_cannot_work(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    """What an environment names is in the catalogue, and what it says of itself agrees."""
    path = tmp_path / "catalogue.yaml"
    services = [{"name": "shop", "environments": {"production": parts}}]
    path.write_text(yaml.safe_dump({"services": services}), encoding="utf-8")

    with pytest.raises(InputError, match=said):
        settings.load_catalogue(path)


@pytest.mark.parametrize(
    ("kind", "one"),
    [
        ("aws.accounts", {"name": "main"}),
        ("launchdarkly", {"project": "main"}),
        ("prometheus", {"name": "main", "url": "http://127.0.0.1:9090"}),
    ],
)
def test_sources_of_one_name(tmp_path: Path, kind: str, one: dict[str, str]) -> None:
    """Two places under one name are refused: the last one would be asked instead of the first."""
    path = tmp_path / "catalogue.yaml"
    section: Any = [one, one]
    for key in reversed(kind.split(".")):
        section = {key: section}
    path.write_text(yaml.safe_dump(section), encoding="utf-8")

    with pytest.raises(InputError, match=f"{kind}: main is there twice"):
        settings.load_catalogue(path)
