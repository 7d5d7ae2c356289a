"""A signal is measured by one source, and a verdict never rests on values from before the step."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.catalogue import Catalogue, Signal

METRIC = {"account": "main", "region": "eu-west-1", "namespace": "AWS/ApplicationELB", "metric": "Errors"}
WEB = {"cluster": "main", "namespace": "shop", "name": "web"}
LONG = timedelta(minutes=3)


def test_a_metric_becomes_the_probe_of_the_verification() -> None:
    """A signal from CloudWatch is verified by the probe of AWS, with the metric as it is written."""
    metric = {**METRIC, "per": "RequestCount", "statistic": "Sum"}
    signal = Signal.model_validate({"cloudwatch": metric, "healthy_below": 0.01, "hold": LONG})
    rule = signal.verification("x", {})

    assert rule.probe.name == "aws.metric"
    assert rule.probe.arguments == {**metric, "dimensions": {}, "period": 60, "within": 3}
    assert (rule.signal, rule.healthy_below, rule.hold) == ("x", 0.01, LONG)


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ({}, "set prometheus and query, or cloudwatch, or check"),
        ({"prometheus": "main"}, "set prometheus and query, or cloudwatch, or check"),
        ({"prometheus": "main", "query": "up", "cloudwatch": METRIC}, "set prometheus and query"),
        ({"check": "front", "cloudwatch": METRIC}, "set prometheus and query"),
        ({"check": "front", "healthy_above": 0}, "set exactly one of"),
        ({"cloudwatch": METRIC, "hold": timedelta(minutes=2)}, "hold is at least 180 seconds"),
        ({"check": "front", "query": "up"}, "set prometheus and query"),
        ({"check": "front", "every": timedelta(days=7)}, "every is at most within"),
        ({"rollout": WEB, "warnings": WEB}, "set prometheus and query, .* or rollout, or warnings"),
        (
            {"warnings": WEB, "hold": timedelta(seconds=9)},
            "hold is at least 10 seconds: warnings are counted",
        ),
    ],
)
def test_a_signal_has_one_source(asks: dict[str, Any], said: str) -> None:
    """No source, half of one, two, or one that is slower than the verdict, is a mistake that is named."""
    with pytest.raises(ValidationError, match=said):
        Signal.model_validate({"hold": LONG, **asks, "healthy_below": 1})


def test_the_account_of_a_metric_is_in_the_catalogue() -> None:
    """A metric of an account that nobody has described is named."""
    signal = {"cloudwatch": METRIC, "healthy_below": 1, "hold": LONG}
    shop = {"name": "shop", "environments": {"production": {"signals": {"errors": signal}}}}
    with pytest.raises(ValidationError, match=r"names main, and aws\.accounts has no main"):
        Catalogue.model_validate({"services": [shop]})

    assert Catalogue.model_validate({"services": [shop], "aws": {"accounts": [{"name": "main"}]}}).services


def test_a_check_can_be_a_signal() -> None:
    """A signal may be one of the environment's checks: healthy while it answers 2xx."""
    front = {"signals": {"front": {"check": "home"}}, "checks": {"home": "https://shop.example.com/"}}
    shop = {"name": "shop", "environments": {"production": front}}
    rule = (
        Catalogue.model_validate({"services": [shop]})
        .services[0]
        .environments["production"]
        .verification("front")
    )
    assert (rule.probe.name, rule.probe.arguments) == ("http.check", {"url": "https://shop.example.com/"})
    assert (rule.is_healthy(1), rule.is_healthy(0)) == (True, False)
    del front["checks"]

    with pytest.raises(ValidationError, match="signal front asks home, which is not in checks"):
        Catalogue.model_validate({"services": [shop]})


@pytest.mark.parametrize(
    ("look", "probe", "more", "healthy"),
    [
        ("rollout", "k8s.rollout_status", {}, {1: True, 0.99: False}),
        ("warnings", "k8s.events", {"within": 60.0}, {0: True, 1: False}),
    ],
)
def test_a_deployment_can_be_a_signal(
    look: str, probe: str, more: dict[str, Any], healthy: dict[float, bool]
) -> None:
    """How far its rollout is, or its warnings, are a signal; each has a threshold that may be another one."""
    web = {**WEB, "kind": "stateful_set"}
    shop: dict[str, Any] = {"deployments": [web], "signals": {"web": {look: web}}}
    book = {
        "clusters": [{"name": "main"}],
        "services": [{"name": "shop", "environments": {"production": shop}}],
    }
    rule = Catalogue.model_validate(book).services[0].environments["production"].verification("web")
    assert (rule.probe.name, rule.probe.arguments) == (probe, {**web, **more})
    assert {value: rule.is_healthy(value) for value in healthy} == healthy
    shop["signals"]["web"] |= {"healthy_above": None, "healthy_below": 9}
    other = Catalogue.model_validate(book).services[0].environments["production"].verification("web")
    assert (other.healthy_above, other.healthy_below) == (None, 9)
    shop["deployments"] = [WEB]

    said = "signal web asks k8s:stateful_set/main/shop/web, which is not in deployments"
    with pytest.raises(ValidationError, match=said):
        Catalogue.model_validate(book)
