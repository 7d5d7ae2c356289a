"""The catalogue says who is on call, whom a rung means and which groups somebody is in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from authority.directory import LADDERS, groups_of, ladder, on_call, resolve
from contracts.catalogue import Catalogue
from contracts.incidents import Incident, Role, Severity

MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
WEEK = timedelta(days=7)
FILE: dict[str, Any] = {
    "people": [{"id": id_, "name": id_.title()} for id_ in ("ada", "bo", "cy", "dee")]
    + [
        {
            "id": "eve",
            "name": "Eve",
            "groups": ["seniors"],
            "contacts": {"webhook": "https://x"},
            "email": "e@x",
        }
    ],
    "teams": [
        {"name": "shop", "members": ["ada", "bo", "dee"], "oidc_groups": ["eng/shop"]},
        {"name": "managers", "members": ["dee"]},
    ],
    "rotations": [
        {
            "name": "primary",
            "people": ["ada", "bo", "cy"],
            "starts": "2026-11-02T10:00:00+01:00",
            "each": "P7D",
            "overrides": [
                {"person": "dee", "starts": "2026-11-04T00:00:00Z", "ends": "2026-11-05T00:00:00Z"},
                {"person": "eve", "starts": "2026-11-04T12:00:00Z", "ends": "2026-11-04T13:00:00Z"},
            ],
        }
    ],
    "services": [
        {"name": "web", "rotation": "primary", "on_call": ["dee", "ada"], "team": "shop", "environments": {}},
        {"name": "batch", "team": "shop", "environments": {}},
        {"name": "old", "on_call": ["cy"], "environments": {}},
        {"name": "lost", "environments": {}},
    ],
}
CATALOGUE = Catalogue.model_validate(FILE)


def incident(service: str = "web") -> Incident:
    """Give an incident of a service."""
    return Incident(
        id="INC-1",
        title="broken",
        service=service,
        environment="production",
        severity=Severity.SEV1,
        opened_at=MONDAY,
        roles={Role.INCIDENT_COMMANDER: "bo"},
    )


@pytest.mark.parametrize(
    ("at", "first"),
    [
        (MONDAY, "ada"),
        (MONDAY + WEEK - timedelta(microseconds=1), "ada"),
        (MONDAY + WEEK, "bo"),
        (MONDAY + 3 * WEEK, "ada"),
        (MONDAY - 5 * WEEK, "ada"),
        (datetime(2026, 11, 4, tzinfo=UTC), "dee"),
        (datetime(2026, 11, 4, 12, 30, tzinfo=UTC), "eve"),
        (datetime(2026, 11, 5, tzinfo=UTC), "ada"),
        (datetime.max.replace(tzinfo=UTC), "ada"),
        (datetime.min.replace(tzinfo=UTC), "ada"),
    ],
)
def test_turns(at: datetime, first: str) -> None:
    """A turn begins to the microsecond, the later override counts, and no clock finds nobody."""
    assert on_call(CATALOGUE, "web", at)[0] == first


@pytest.mark.parametrize(("zone", "handed_over_at"), [("Europe/Berlin", 8), (None, 7)])
def test_a_hand_over_by_the_clocks_of_a_place(zone: str | None, handed_over_at: int) -> None:
    """On Mondays at nine in Berlin, before and after the end of summer time; by UTC it is eight then."""
    shop = {"name": "shop", "people": ["ada", "bo"], "starts": "2026-10-19T07:00:00Z", "zone": zone}
    book = {
        "people": [{"id": "ada", "name": "A"}, {"id": "bo", "name": "B"}],
        "rotations": [shop],
        "services": [{"name": "web", "rotation": "shop", "environments": {}}],
    }
    catalogue, after = Catalogue.model_validate(book), datetime(2026, 10, 26, handed_over_at, tzinfo=UTC)

    turns = [on_call(catalogue, "web", at) for at in (after - timedelta(seconds=1), after)]
    assert turns == [("ada",), ("bo",)]


def test_on_call_without_a_rotation() -> None:
    """The turn comes before the list, the list before the team; an unknown service has nobody."""
    found = {name: on_call(CATALOGUE, name, MONDAY) for name in ("web", "batch", "old", "lost", "unknown")}

    assert found == {
        "web": ("ada", "dee"),
        "batch": ("ada", "bo", "dee"),
        "old": ("cy",),
        "lost": (),
        "unknown": (),
    }


@pytest.mark.parametrize(
    ("whom", "people"),
    [
        ("incident_commander", ("bo",)),
        ("technical_lead", ()),
        ("on_call", ("ada", "dee")),
        ("team", ("ada", "bo", "dee")),
        ("team:managers", ("dee",)),
        ("rotation:primary", ("ada",)),
        ("person:eve", ("eve",)),
        (("incident_commander", "team", "person:bo"), ("bo", "ada", "dee")),
        ("rotation:gone", ()),
        ("team:gone", ()),
    ],
)
def test_words_of_a_rung(whom: str | tuple[str, ...], people: tuple[str, ...]) -> None:
    """Each word means who it says at that moment, in order, each once."""
    assert resolve(CATALOGUE, incident(), whom, MONDAY) == people


def test_team_of_a_service_without_one() -> None:
    """A service without a team has no team to call."""
    assert resolve(CATALOGUE, incident("old"), "team", MONDAY) == ()


@pytest.mark.parametrize(
    ("person", "oidc", "groups"),
    [
        ("ada", (), ("shop",)),
        ("dee", (), ("managers", "shop")),
        ("cy", ("eng/shop",), ("shop",)),
        ("cy", ("shop", "managers"), ()),
        ("eve", (), ("seniors",)),
        ("mallory", ("eng/shop",), ()),
    ],
)
def test_groups(person: str, oidc: tuple[str, ...], groups: tuple[str, ...]) -> None:
    """A provider's group counts only through a team that names it, and a stranger is in none."""
    assert groups_of(CATALOGUE, person, oidc) == groups


def test_addresses() -> None:
    """A channel reaches a person at the contact of its kind, and by mail at their address."""
    eve = CATALOGUE.people[-1]

    assert [eve.address(kind) for kind in ("webhook", "email", "pager")] == ["https://x", "e@x", None]


def test_ladders() -> None:
    """Every severity has a ladder whose first rung is called at once; a written one replaces ours."""
    written = {"escalation": {"SEV2": [{"after": "PT1M", "notify": ["person:eve"], "channel": "webhook"}]}}
    own = Catalogue.model_validate(FILE | written)

    assert [ladder(CATALOGUE, severity)[0].after for severity in Severity] == [timedelta()] * 4
    assert ladder(own, Severity.SEV1) == LADDERS[Severity.SEV1]
    assert [(rung.notify, rung.channel) for rung in ladder(own, Severity.SEV2)] == [
        (("person:eve",), "webhook")
    ]


def test_our_ladders_are_ladders() -> None:
    """Our own ladders are what the catalogue accepts."""
    rungs = {severity: [rung.model_dump() for rung in found] for severity, found in LADDERS.items()}

    assert Catalogue.model_validate({"escalation": rungs}).escalation == LADDERS


TURN = {"name": "r", "people": ["ada"], "starts": "2026-11-02T09:00:00Z"}
BACK = {"person": "ada", "starts": "2026-11-03T00:00:00Z", "ends": "2026-11-03T00:00:00Z"}
STRANGER = {"person": "zed", "ends": "2026-11-04T00:00:00Z"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teams": [{"name": "a", "members": ["zed"]}]}, "team a names zed, and people has no zed"),
        ({"teams": [{"name": "a"}, {"name": "a"}]}, "teams: a is there twice"),
        ({"rotations": [TURN | {"people": ["zed"]}]}, "rotation r names zed, and people has no zed"),
        ({"rotations": [TURN | {"overrides": [BACK]}]}, "the override of ada ends before it starts"),
        (
            {"rotations": [TURN | {"overrides": [BACK | STRANGER]}]},
            "rotation r names zed, and people has no zed",
        ),
        ({"rotations": [TURN | {"starts": "2026-11-02T09:00:00"}]}, "has no time zone: write it in UTC"),
        ({"people": [{"id": "stanch", "name": "S"}]}, "stanch is whom the log names when nobody did it"),
        ({"rotations": [TURN | {"starts": "0001-01-01T00:00:00+14:00"}]}, "out of reach: name a year"),
        ({"rotations": [TURN | {"zone": "Berlin"}]}, "'Berlin' is no time zone: write one such as"),
        ({"rotations": [TURN | {"zone": "../../etc/passwd"}]}, "is no time zone"),
        ({"rotations": [TURN | {"each": 0}]}, "greater than or equal to 1 hour"),
        ({"rotations": [TURN | {"people": []}]}, "at least 1 item"),
        ({"services": [{"name": "s", "team": "x", "environments": {}}]}, "service s: team names x"),
        ({"services": [{"name": "s", "rotation": "x", "environments": {}}]}, "service s: rotation names x"),
        ({"services": [{"name": "s", "on_call": ["x"], "environments": {}}]}, "service s: on_call names x"),
        ({"escalation": {"SEV1": []}}, "at least 1 item"),
        ({"escalation": {"SEV1": [{"notify": []}]}}, "at least 1 item"),
        ({"escalation": {"SEV1": [{"notify": ["boss"]}]}}, "match pattern"),
        (
            {"escalation": {"SEV1": [{"notify": ["team:x"]}]}},
            "escalation of SEV1 names x, and teams has no x",
        ),
        ({"escalation": {"SEV1": [{"notify": ["person:x"]}]}}, "escalation of SEV1 names x, and people has"),
        ({"escalation": {"SEV1": [{"notify": ["team"]}] * 2}}, "each rung comes later"),
        ({"escalation": {"SEV5": [{"notify": ["team"]}]}}, "SEV1"),
    ],
)
def test_directories_that_cannot_work(change: dict[str, Any], said: str) -> None:
    """A name that nobody has, a time without a zone and a ladder that goes nowhere are named."""
    people = {"people": [{"id": "ada", "name": "Ada"}]}
    with pytest.raises(ValidationError, match=said):
        Catalogue.model_validate(people | change)
