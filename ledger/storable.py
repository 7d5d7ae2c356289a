"""What every database and canonical JSON can hold, whatever an alert or a provider said."""

import math
import re

from pydantic import JsonValue

from authority.seals import canonical

LARGEST_EXACT = 2**53 - 1  # RFC 8785: beyond it, two readers may disagree about an integer
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL refuses the first, UTF-8 the others


def clean(text: str) -> str:
    """Replace NUL characters and lone surrogates by the replacement character."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str, longest: int = 300) -> str:
    """Give the text as one line for a timeline, cut with an ellipsis where it is too long."""
    line = " ".join(clean(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def plain(value: JsonValue) -> JsonValue:
    """Give the nearest value with a canonical form: odd numbers become strings, odd characters go."""
    match value:
        case dict():
            return {clean(name): plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case str():
            return clean(value)
        case bool() | None:
            return value
        case int():
            return value if abs(value) <= LARGEST_EXACT else str(value)
        case _:
            return value if math.isfinite(value) else str(value)


def canonical_text(value: JsonValue) -> str:
    """Give the canonical JSON of the nearest value that has one: what is stored is what evidence says."""
    try:
        return canonical(value).decode()
    except ValueError:
        return canonical(plain(value)).decode()
