"""The demo's part of PromQL, held against Prometheus' own evaluator where that is installed."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.demo.promql import PromQLError, Samples, Vector, labels_of, parse, seconds

# One value per second from time 0, as promtool writes them. The second series is reset at 10 s.
SERIES = {
    'shop_requests_total{code="200"}': [float(20 * n) for n in range(30)],
    'shop_requests_total{code="500"}': [
        *(float(7 * n) for n in range(10)),
        *(float(3 * n) for n in range(20)),
    ],
    'shop_requests_total{code="503"}': [1.0] * 30,
    "shop_db_pool_size": [40.0] * 30,
    "shop_db_pool_in_use": [float(n) for n in range(30)],
}
LABELS = {
    'shop_requests_total{code="200"}': labels_of({"__name__": "shop_requests_total", "code": "200"}),
    'shop_requests_total{code="500"}': labels_of({"__name__": "shop_requests_total", "code": "500"}),
    'shop_requests_total{code="503"}': labels_of({"__name__": "shop_requests_total", "code": "503"}),
    "shop_db_pool_size": labels_of({"__name__": "shop_db_pool_size"}),
    "shop_db_pool_in_use": labels_of({"__name__": "shop_db_pool_in_use"}),
}
QUERIES = [
    'sum(rate(shop_requests_total{code=~"5.."}[5s])) / sum(rate(shop_requests_total[5s])) > 0.05',
    "rate(shop_requests_total[5s])",
    'rate(shop_requests_total{code!="200"}[9s]) * 60',
    'sum(rate({__name__="shop_requests_total",code!~"2.."}[3s]))',
    "shop_db_pool_in_use / shop_db_pool_size",
    "100 - shop_db_pool_in_use * 2 - 1",
    "-shop_db_pool_in_use + 4 * (2 + 1)",
    "shop_db_pool_in_use >= 12",
    "shop_db_pool_in_use < 12 != 11",
    "sum(shop_requests_total) == 1",
    "shop_requests_total * shop_db_pool_size",
]


def samples(until: float) -> Samples:
    """Scrape the series each second up to a time."""
    held = Samples()
    for second in range(min(30, int(until) + 1)):
        held.add(float(second), {LABELS[name]: values[second] for name, values in SERIES.items()})
    return held


def evaluate(query: str, at: float) -> Vector:
    """Evaluate a query on the series."""
    result = parse(query, samples(at))(at)
    assert isinstance(result, dict)
    return result


def selector(labels: tuple[tuple[str, str], ...]) -> str:
    """Write labels as promtool wants them."""
    name = dict(labels).get("__name__", "")
    return (
        name
        + "{"
        + ",".join(f"{key}={json.dumps(value)}" for key, value in labels if key != "__name__")
        + "}"
    )


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")
def test_every_query_gives_what_prometheus_gives(tmp_path: Path) -> None:
    """Each supported query has the same result in Prometheus' own evaluator, at awkward times too."""
    cases = [
        {
            "expr": query,
            "eval_time": f"{int(at * 1000)}ms",
            "exp_samples": [
                {"labels": selector(labels), "value": value} for labels, value in evaluate(query, at).items()
            ],
        }
        for query in QUERIES
        for at in (0.2, 3.5, 9.9, 11.25, 17.0, 29.0)
    ]
    series = [{"series": name, "values": " ".join(map(str, values))} for name, values in SERIES.items()]
    spec = {
        "evaluation_interval": "1s",
        "tests": [{"interval": "1s", "input_series": series, "promql_expr_test": cases}],
    }
    path = tmp_path / "cases.yml"
    path.write_text(json.dumps(spec))  # JSON is YAML

    told = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)

    assert (told.returncode, told.stderr) == (0, "")


def test_the_error_ratio_counts_across_a_reset() -> None:
    """A counter that starts again at zero is a restart and no negative rate."""
    assert evaluate('rate(shop_requests_total{code="500"}[5s])', 12.0) == {
        (("code", "500"),): pytest.approx(4.0)
    }


def test_a_ratio_without_traffic_is_no_number_and_no_alert() -> None:
    """Zero of zero requests is NaN, which is neither above nor below a threshold."""
    ratio = "sum(shop_db_pool_size - 40) / sum(shop_db_pool_size - 40)"

    assert math.isnan(evaluate(ratio, 5.0)[()])
    assert evaluate(f"{ratio} > 0.05", 5.0) == {}


@pytest.mark.parametrize(
    "query", ["sum(rate(no_such_total[5s]))", "no_such", "rate(shop_db_pool_size[1s]) > 7"]
)
def test_nothing_known_is_an_empty_result(query: str) -> None:
    """A query for what is not there is empty, not zero."""
    assert evaluate(query, 0.5) == {}


def test_a_series_that_was_not_scraped_again_is_stale() -> None:
    """The instant value ends with the scrape that does not have it; the rate goes on over its window."""
    held = samples(29)
    held.add(30.0, {})

    assert parse("shop_db_pool_size", held)(30.0) == {}
    assert parse("sum(rate(shop_requests_total[5s]))", held)(30.0) != {}


def test_old_samples_are_dropped() -> None:
    """Memory does not grow for ever: after the look-back nothing of a lost series is held."""
    held = samples(29)
    held.add(1000.0, {})

    assert parse("rate(shop_requests_total[5s])", held)(29.0) == {}


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "'the end' is not expected there"),
        ("histogram_quantile(0.9, x)", r"histogram_quantile\(\) is not in the demo's part"),
        ("sum by (code) (x)", "'by' is not expected there, or is not in the demo's part"),
        ("rate(x)", "wants a range"),
        ("x[5s]", r"stands only inside rate\(\)"),
        ("rate(x[5])", "'5' is not a duration"),
        ('x{code=~"("}', "is not a regular expression"),
        ("x{code=5}", "is compared with a text"),
        ("x{code}", "expected = or != or =~ or !~"),
        ("x > ", "'the end' is not expected"),
        ("1 > 0", "series on its left and a number on its right"),
        ("x > y", "series on its left and a number on its right"),
        ("sum(1)", "sum.. wants series"),
        ("x ~ y", "cannot read the query from '~ y'"),
        ("(" * 5000, "nested too deeply"),
        ("x" + "+x" * 5000, "nested too deeply"),
    ],
)
def test_what_is_not_here_is_named(query: str, complaint: str) -> None:
    """Anything outside the supported part is one clear error, never a wrong number."""
    with pytest.raises(PromQLError, match=complaint):
        evaluate(query, 5.0)


@pytest.mark.parametrize(("text", "expected"), [("5s", 5.0), ("100ms", 0.1), ("2m", 120.0), ("1h", 3600.0)])
def test_durations(text: str, expected: float) -> None:
    """A duration is a number and a unit."""
    assert seconds(text) == pytest.approx(expected)
