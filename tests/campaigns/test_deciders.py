"""The rules of deciding hold over a few histories; `make campaign-approvals` runs them by the thousand."""

from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.campaigns import deciders


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
