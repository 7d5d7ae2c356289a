"""Sentences about what came from outside."""

import pytest
from pydantic import TypeAdapter, ValidationError, model_validator

from contracts.base import Strict
from contracts.errors import first_wrong, one_line


class _Order(Strict):
    sizes: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _not_many(self) -> "_Order":
        if len(self.sizes) > 1:
            raise ValueError("one size is enough")
        return self


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"sizes": ["x"]}', "sizes.0: Input should be a valid integer"),
        ('{"sizes": [1, 2]}', "one size is enough"),
        ('{"colour": 1}', "colour: Extra inputs are not permitted"),
    ],
)
def test_the_first_mistake(text: str, said: str) -> None:
    """The place is named, also where the whole is wrong and there is none."""
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(_Order).validate_json(text)

    assert first_wrong(raised.value).startswith(said)


def test_what_a_server_says() -> None:
    """It stays one printable line, and not an endless one."""
    assert one_line("no\n such\x1b[31m\tthing ") == "no such [31m thing"
    assert one_line("long" * 1000, 10) == "longlongl…"
