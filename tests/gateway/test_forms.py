"""Fields of forms are read whole or not at all."""

import json

import pytest

from authority.grants import read_limits
from contracts.errors import InputError
from gateway import forms


def test_a_long_limit_stays_whole() -> None:
    """What an envelope around a plan writes, as a pod template, is read as it was written."""
    template = {"containers": [{"name": "web", "args": ["x\u2028y" * 1000]}]}
    written = f"template = {json.dumps(template, ensure_ascii=False)}\r\n\r\nreplicas <= 6\r\n"

    found = read_limits(forms.lines({"limits": written}, "limits"))

    assert found["template"].one_of == (template,)
    assert sorted(found) == ["replicas", "template"]


def test_a_line_that_is_too_long() -> None:
    """It is refused, not cut."""
    with pytest.raises(InputError, match=r"limits: 'key = aaa.* has more than 16000 characters: shorten it"):
        forms.lines({"limits": f"key = {'a' * 16_000}"}, "limits")
