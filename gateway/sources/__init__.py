"""Where alerts come from: one module for each source, each a pure function from a JSON document to alerts."""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from contracts.catalogue import Catalogue
from gateway.sources import alertmanager
from gateway.sources.reading import Parsed

Parser = Callable[[JsonValue, Catalogue], Parsed]

SOURCES: Final[Mapping[str, Parser]] = {alertmanager.SOURCE: alertmanager.parse}

__all__ = ["SOURCES", "Parsed", "Parser"]
