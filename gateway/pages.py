"""Templates and static files: loaded once, escaped always, served with no path of the client's making."""

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from authority.grants import write_limits
from contracts.catalogue import Catalogue
from contracts.errors import NotFoundError
from gateway import drawing, wording
from gateway.identity import Session
from ledger import Ledger

_FOLDER: Final = Path(__file__).parent / "console"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
THING: Final = re.compile(
    r"(/(?:incidents|approvals)/[A-Z]+-[0-9]+(?=/.)|/(?:grants|mitigations|readiness|tokens)\b)"
)
_HEADINGS: Final = {
    403: "Not allowed",
    404: "Not found",
    409: "Not any more",
    422: "That cannot be used",
    500: "Something broke",
    503: "Not available now",
}


@cache
def _templates() -> Environment:
    """Give the compiled templates; everything that they print is escaped, and made visible before."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(words=wording, limits=write_limits, draw=drawing)
    for name in environment.list_templates():  # all at once: a release that is put in place mixes with none
        environment.get_template(name)
    return environment


class Pages:
    """Renders pages, and holds the few files that they need."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._templates = _templates()
        self._freezes = ledger.freezes.list
        self._names = {person.id: person.name for person in catalogue.people}
        files = sorted((_FOLDER / "static").iterdir())
        self._static = {file.name: file.read_bytes() for file in files if file.suffix in _TYPES}
        version = hashlib.sha256(b"".join(self._static.values())).hexdigest()[:12]
        self._assets = f"/static/{version}"

    def page(
        self, template: str, session: Session | None, *, status: int = 200, **content: object
    ) -> HTMLResponse:
        """Render a page for who looks, or for anybody."""
        shared: dict[str, object] = {"now": self._clock(), "assets": self._assets, "session": session}
        if session:
            shared |= {"freezes": self._freezes(), "form": session.token(), "last": session.last}
            shared |= {"names": self._names}
        text = self._templates.get_template(template).render(shared | content)
        return HTMLResponse(text, status_code=status)

    def problem(self, path: str, status: int, sentence: str) -> HTMLResponse:
        """Render the page that says what went wrong, with a way back to what the request was about."""
        thing = THING.match(path)
        return self.page(
            "problem.html",
            None,
            status=status,
            heading=_HEADINGS.get(status, "That did not work"),
            sentence=sentence,
            back=thing[1] if thing else "/",
        )

    def static(self, name: str) -> Response:
        """Give one of our files.

        Raises:
            NotFoundError: There is none of that name.
        """
        if name not in self._static:
            raise NotFoundError("there is no such file")
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable"
        }  # its address has the content's digest
        return Response(self._static[name], media_type=_TYPES[Path(name).suffix], headers=headers)
