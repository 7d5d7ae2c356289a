"""The rules of deciding hold over a few histories; `make campaign-approvals` runs them by the thousand."""

from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.campaigns import deciders
from tests.campaigns.__main__ import so_many


def test_histories_follow_the_model() -> None:
    """Whatever the deciders, clocks and processes do, the ledger answers as the model does."""
    few = settings(
        max_examples=20,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    with deciders.template() as source:
        factory = partial(deciders.Deciders, source)
        run_state_machine_as_test(factory, settings=few)  # type: ignore[arg-type]  # a factory is called alike


def test_each_process_of_the_campaign_has_histories_of_its_own() -> None:
    """The seed counts on every machine: by itself Hypothesis repeats the same histories where CI is set."""
    assert so_many(1).derandomize is False
