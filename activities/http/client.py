"""A URL, asked once."""

import time
from collections.abc import Collection
from datetime import timedelta

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from activities.http.models import Answer
from contracts.errors import ActionRefusedError

PROBLEMS = (  # the first that fits; some are subclasses of others
    (NameResolutionError, "its name cannot be resolved from here"),
    (NewConnectionError, "the connection was refused"),
    (ConnectTimeoutError, "no connection in time"),
    (ReadTimeoutError, "connected, but no status in time"),
    (SSLError, "its certificate or TLS is not accepted"),
    (ProtocolError, "the connection was cut or what came is not HTTP"),
)


class HttpClient:
    """Asks the catalogue's URLs and no others. Used from threads.

    Args:
        allowed: Every URL that may be asked.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def get(self, url: str, timeout: timedelta) -> Answer:
        """Ask once, on a fresh connection; the body is not read and redirects are not followed.

        Raises:
            ActionRefusedError: The catalogue does not have this URL, or it is not http or https.
        """
        if url not in self._allowed:
            raise ActionRefusedError(f"{url[:300]}: not in the catalogue's checks")
        if not url.lower().startswith(("http://", "https://")):
            raise ActionRefusedError(f"{url[:300]}: only http and https are asked")
        begun = time.monotonic()
        try:
            with urllib3.PoolManager(retries=False) as http:
                response = http.request(
                    "GET",
                    url,
                    headers={"User-Agent": "stanch", "Connection": "close"},
                    timeout=urllib3.Timeout(total=timeout.total_seconds()),
                    redirect=False,
                    preload_content=False,
                )
                response.close()
                return Answer(status=response.status, seconds=time.monotonic() - begun)
        except LocationValueError as error:
            raise ActionRefusedError(f"{url[:300]}: not a URL: {error}") from error
        except HTTPError as error:
            problem = next((why for kind, why in PROBLEMS if isinstance(error, kind)), type(error).__name__)
            return Answer(
                seconds=time.monotonic() - begun,
                problem=problem,
                known=not isinstance(error, NameResolutionError),
            )
