"""A few hundred wrong approvals of every kind; `make campaign-approvals` tries them by the thousand."""

import pytest

from authority.decisions import Verifier
from tests.campaigns import asking, forging, raw
from tests.campaigns.forging import KINDS, Count, Table

SEED = 20_260_301


def check(table: Table) -> None:
    """Check that nothing acted, everything was refused, and what is to be kept is in the evidence."""
    assert {kind: one.notes for kind, one in table.items() if one.notes} == {}
    assert {kind: one.acted for kind, one in table.items() if one.acted} == {}
    assert {k: one for k, one in table.items() if not one.is_silent and one.logged < one.tried} == {}
    assert all(one.tried for one in table.values())


def test_nothing_forged_acts() -> None:
    """No wrong decision of any kind changes anything at the provider, and each is in the evidence."""
    check(forging.forge(SEED, 150))


def test_nothing_forged_is_decided() -> None:
    """No wrong answer by any door decides a request."""
    check(asking.forge(SEED, 72))


def test_a_worker_that_believes_everything_is_seen() -> None:
    """Without the check of decisions the same attempts do act, and the count says so."""

    class Credulous(Verifier):
        def check_approves(self, *_: object, **__: object) -> None:
            return

    with forging.world(SEED, many=8) as world:
        world.verifier = Credulous([])
        count = Count()
        world.attempt(KINDS["T10 stranger's key as ours"](world), count)

    assert (count.tried, count.acted, count.logged) == (1, 1, 0)
    assert count.notes


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_acts_that_is_sent_straight_to_the_engine() -> None:
    """Who writes to the engine without a gateway achieves evidence, and the true decision still acts."""
    check(await raw.forge(SEED, 16))
