"""What a hostile alert or an odd provider may send, made storable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from authority.seals import canonical
from ledger import storable

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@given(ANY_JSON)
def test_every_value_has_a_text(value: JsonValue) -> None:
    """Whatever it is, its text can be encoded and is the same for what comes back."""
    text = storable.canonical_text(value)

    assert canonical(storable.plain(value)).decode() == storable.canonical_text(storable.plain(value))
    assert text.encode()
    assert "\x00" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 2**53}, '{"a":"9007199254740992"}'),
        ({"a": 2**53 - 1}, '{"a":9007199254740991}'),
        ({"a": float("nan"), "b": [float("-inf"), True, None]}, '{"a":"nan","b":["-inf",true,null]}'),
        ({"a\ud800": "\udfff"}, '{"a�":"�"}'),
        ({"a": "ä\x00"}, '{"a":"ä\\u0000"}'),
    ],
)
def test_nearest_value(value: JsonValue, text: str) -> None:
    """What has no canonical form is kept as the nearest thing that has one."""
    assert storable.canonical_text(value) == text


def test_one_line() -> None:
    """A timeline's line has no breaks and a bounded length."""
    assert storable.one_line("a\n b\t\x00") == "a b �"
    assert storable.one_line("x" * 400, 10) == "xxxxxxxxx…"
