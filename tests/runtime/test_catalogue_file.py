"""A catalogue that cannot work is refused where it is read, in one sentence that names the place."""

from pathlib import Path

import pytest

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
