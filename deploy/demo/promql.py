"""The part of PromQL that the demo's rules and probes need, over samples in memory.

Selectors with all four matchers, ``rate`` over a range, ``sum``, ``+ - * /`` and comparisons. All else is an
error that names it. ``rate`` extrapolates and follows counter resets as Prometheus 2 does.
"""

import itertools
import math
import operator
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]  # sorted by name; the metric's name is the label __name__
Vector = dict[Labels, float]
Value = float | Vector
Expression = Callable[[float], Value]
Sample = tuple[float, float]  # time in epoch seconds, value

LOOKBACK = 300.0  # seconds that an instant value stays valid, as in Prometheus
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
COMPARISONS = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
TOKEN = re.compile(
    r"""\s*(?:(?P<range>\[[^\]]*\]) | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?) | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<text>"(?:[^"\\]|\\.)*") | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/(){},<>=]))""",
    re.VERBOSE,
)


class PromQLError(ValueError):
    """The text is not PromQL, or more of it than there is here."""


def labels_of(pairs: Mapping[str, str]) -> Labels:
    """Give labels in their one order."""
    return tuple(sorted(pairs.items()))


def seconds(duration: str) -> float:
    """Read a duration such as ``5s``, ``100ms`` or ``1h``.

    Raises:
        PromQLError: It is none.
    """
    found = re.fullmatch(r"(\d+)(ms|s|m|h)", duration.strip())
    if not found:
        raise PromQLError(f"{duration!r} is not a duration such as 5s")
    return int(found[1]) * UNITS[found[2]]


@dataclass
class Samples:
    """What was scraped in the last minutes. Not safe for several threads: hold a lock around it."""

    _series: dict[Labels, deque[Sample]] = field(default_factory=dict)
    _gone: set[Labels] = field(default_factory=set)

    def add(self, at: float, scraped: Vector) -> None:
        """Add one scrape of everything; a series that is missing in it is stale."""
        for labels, value in scraped.items():
            samples = self._series.setdefault(labels, deque())
            samples.append((at, value))
            while samples[0][0] < at - LOOKBACK:
                samples.popleft()
        self._gone = self._series.keys() - scraped.keys()
        for labels in [labels for labels in self._gone if self._series[labels][-1][0] < at - LOOKBACK]:
            del self._series[labels]

    def instant(self, wanted: Callable[[Labels], bool], at: float) -> Vector:
        """Give the newest value of each wanted series."""
        found = {}
        for labels, samples in self._series.items():
            if labels not in self._gone and wanted(labels):
                newest = next(
                    (value for when, value in reversed(samples) if at - LOOKBACK < when <= at), None
                )
                if newest is not None:
                    found[labels] = newest
        return found

    def ranges(self, wanted: Callable[[Labels], bool], at: float, span: float) -> dict[Labels, list[Sample]]:
        """Give each wanted series' samples of the last ``span`` seconds."""
        return {
            labels: [sample for sample in samples if at - span <= sample[0] <= at]
            for labels, samples in self._series.items()
            if wanted(labels)
        }


def rate(samples: list[Sample], at: float, span: float) -> float | None:
    """Give a counter's increase per second, extrapolated to the whole span as Prometheus 2 does."""
    if len(samples) < 2:  # noqa: PLR2004  (no slope without two points)
        return None
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    pairs = itertools.pairwise(samples)
    resets = sum(before for (_, before), (_, after) in pairs if after < before)
    increase = last - first + resets
    sampled = last_at - first_at
    between = sampled / (len(samples) - 1)
    to_start, to_end = first_at - (at - span), at - last_at
    if increase > 0 and first >= 0:
        to_start = min(to_start, sampled * first / increase)  # a counter was never below zero
    for gap in (to_start, to_end):
        sampled += gap if gap < between * 1.1 else between / 2
    return increase * (sampled / (last_at - first_at) / span)


def parse(query: str, samples: Samples) -> Expression:
    """Compile a query to a function of the evaluation time, which may raise the same.

    Raises:
        PromQLError: It says what is wrong, or what there is not.
    """
    too_deep = PromQLError("the query is nested too deeply")
    try:
        expression = _Parser(query, samples).whole()
    except RecursionError:
        raise too_deep from None

    def evaluate(at: float) -> Value:
        try:
            return expression(at)
        except RecursionError:
            raise too_deep from None

    return evaluate


class _Parser:
    """Recursive descent, one method per level of precedence."""

    def __init__(self, query: str, samples: Samples) -> None:
        self._samples = samples
        self._tokens: list[tuple[str, str]] = []
        at, end = 0, len(query.rstrip())
        while at < end:
            found = TOKEN.match(query, at)
            if not found:
                raise PromQLError(f"cannot read the query from {query[at:].strip()[:40]!r}")
            self._tokens.append((str(found.lastgroup), found[found.lastgroup or 0]))
            at = found.end()
        self._tokens.append(("end", "the end"))
        self._next = 0

    def whole(self) -> Expression:
        expression = self._comparison()
        if self._peek()[0] != "end":
            raise PromQLError(
                f"{self._peek()[1]!r} is not expected there, or is not in the demo's part of PromQL"
            )
        return expression

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)  # the end stays
        return token

    def _accept(self, *signs: str) -> str | None:
        kind, text = self._peek()
        if kind == "sign" and text in signs:
            return self._take()[1]
        return None

    def _expect(self, *signs: str) -> str:
        accepted = self._accept(*signs)
        if accepted is None:
            raise PromQLError(f"expected {' or '.join(signs)} and not {self._peek()[1]!r}")
        return accepted

    def _comparison(self) -> Expression:
        left = self._chain(("+", "-"), lambda: self._chain(("*", "/"), self._factor))
        while sign := self._accept(*COMPARISONS):
            right = self._chain(("+", "-"), lambda: self._chain(("*", "/"), self._factor))
            left = _compared(left, sign, right)
        return left

    def _chain(self, signs: tuple[str, ...], part: Callable[[], Expression]) -> Expression:
        left = part()
        while sign := self._accept(*signs):
            left = _computed(left, sign, part())
        return left

    def _factor(self) -> Expression:
        if self._accept("-"):
            return _computed(lambda _: 0.0, "-", self._factor())
        if self._accept("("):
            inner = self._comparison()
            self._expect(")")
            return inner
        kind, text = self._take()
        if kind == "number":
            return lambda _: float(text)
        called = self._peek() == ("sign", "(")
        if kind == "name" and called:
            self._take()
            return self._function(text)
        if kind == "name" or (kind, text) == ("sign", "{"):
            wanted = self._selector(text)
            if self._peek()[0] == "range":
                raise PromQLError("a range such as [5s] stands only inside rate()")
            return lambda at: self._samples.instant(wanted, at)
        raise PromQLError(f"{text!r} is not expected there")

    def _function(self, name: str) -> Expression:
        if name == "sum":
            inner = self._comparison()
            self._expect(")")
            return _summed(inner)
        if name != "rate":
            raise PromQLError(f"{name}() is not in the demo's part of PromQL, which has rate() and sum()")
        wanted = self._selector(self._take()[1])
        kind, text = self._take()
        if kind != "range":
            raise PromQLError("rate() wants a range such as [5s]")
        span = seconds(text[1:-1])
        self._expect(")")

        def rates(at: float) -> Vector:
            per_second = {
                _nameless(labels): rate(samples, at, span)
                for labels, samples in self._samples.ranges(wanted, at, span).items()
            }
            return {labels: value for labels, value in per_second.items() if value is not None}

        return rates

    def _selector(self, name: str) -> Callable[[Labels], bool]:
        matchers = []
        if name != "{":
            matchers.append(_matcher("__name__", "=", name))
        if name == "{" or self._accept("{"):
            while not self._accept("}"):
                _, label = self._take()
                sign = self._expect("=", "!=", "=~", "!~")
                kind, text = self._take()
                if kind != "text":
                    raise PromQLError(f'the label {label} is compared with a text in "", not with {text!r}')
                matchers.append(_matcher(label, sign, re.sub(r"\\(.)", r"\1", text[1:-1])))
                if self._expect(",", "}") == "}":
                    break
        return lambda labels: all(matches(dict(labels)) for matches in matchers)


def _matcher(label: str, sign: str, text: str) -> Callable[[Mapping[str, str]], bool]:
    if sign in ("=", "!="):
        return lambda labels: (labels.get(label, "") == text) is (sign == "=")
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise PromQLError(f"{text!r} is not a regular expression: {error}") from error
    return lambda labels: bool(pattern.fullmatch(labels.get(label, ""))) is (sign == "=~")


def _nameless(labels: Iterable[tuple[str, str]]) -> Labels:
    return tuple(pair for pair in labels if pair[0] != "__name__")


def _summed(inner: Expression) -> Expression:
    def total(at: float) -> Vector:
        value = inner(at)
        if isinstance(value, float):
            raise PromQLError("sum() wants series, not a number")
        return {(): sum(value.values())} if value else {}

    return total


def _divide(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)


def _computed(left: Expression, sign: str, right: Expression) -> Expression:
    compute = ARITHMETIC.get(sign, _divide)

    def result(at: float) -> Value:
        one, other = left(at), right(at)
        if isinstance(one, float) and isinstance(other, float):
            return float(compute(one, other))
        if isinstance(one, float):
            return {_nameless(labels): compute(one, value) for labels, value in _vector(other).items()}
        if isinstance(other, float):
            return {_nameless(labels): compute(value, other) for labels, value in one.items()}
        others = {_nameless(labels): value for labels, value in other.items()}
        ones = {_nameless(labels): value for labels, value in one.items()}
        return {labels: compute(value, others[labels]) for labels, value in ones.items() if labels in others}

    return result


def _vector(value: Value) -> Vector:
    return {} if isinstance(value, float) else value


def _compared(left: Expression, sign: str, right: Expression) -> Expression:
    compare = COMPARISONS[sign]

    def result(at: float) -> Value:
        one, other = left(at), right(at)
        if isinstance(one, float) or not isinstance(other, float):
            raise PromQLError("a comparison has series on its left and a number on its right")
        return {labels: value for labels, value in one.items() if compare(value, other)}

    return result
