"""The way in and out of the console: at the identity provider or by local mode, and out again."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from contracts.catalogue import Catalogue
from contracts.errors import ForbiddenError
from contracts.evidence import EvidenceKind
from gateway import forms
from gateway.asking import Sent
from gateway.identity import OIDC, SIGN_IN_WITHIN, Identity, Proof, UnprovenError
from gateway.pages import THING, Pages
from ledger.identities import digest
from runtime.settings import Settings

if TYPE_CHECKING:
    from gateway.oidc import Provider

_OVER: Final = "Your session is over: sign in again."


def provider(settings: Settings, catalogue: Catalogue, *, clock: Callable[[], datetime]) -> "Provider | None":
    """Give the identity provider that the settings name; its library is loaded only where there is one."""
    if settings.identity != OIDC:
        return None
    from gateway.oidc import Provider  # noqa: PLC0415  (a quarter of a second that local mode does not pay)

    return Provider(settings, catalogue, clock=clock)


def needed(identity: Identity, request: Request, *, fresh: bool) -> Response:
    """Send a browser to the sign-in page, and afterwards back to the page that it wanted."""
    thing = THING.match(request.url.path)
    after = request.url.path if request.method == "GET" else thing[1] if thing else "/"
    note = "&fresh=1" if fresh else "&note=1" if identity.cookie in request.cookies else ""
    return forms.see(f"/signin?after={quote(after)}{note}")


def router(identity: Identity, pages: Pages, provider: "Provider | None") -> APIRouter:
    """Give the pages of signing in and out."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/signin")
    def sign_in_page(after: str = "/", note: str = "", fresh: str = "") -> Response:
        stale = f"This needs a sign-in that is not older than {identity.fresh_within.seconds // 60} min."
        return pages.page(
            "signin.html",
            None,
            people=identity.people,
            provider=provider.name if provider else "",
            after=forms.own_path(after),
            fresh=bool(fresh),
            note=stale if fresh else _OVER if note else "",
        )

    @routes.post("/signout")
    def sign_out(session: Sent) -> Response:
        response = forms.see("/signin")
        identity.end(session, response)
        return response

    if provider is None:
        _by_name(routes, identity)
    else:
        _by_provider(routes, identity, pages, provider)
    return routes


def _by_name(routes: APIRouter, identity: Identity) -> None:
    @routes.post("/signin", dependencies=[Depends(identity.check_same_origin)])
    def sign_in(request: Request, form: forms.Filled) -> Response:
        response = forms.see(forms.own_path(form.get("after", "/")))
        person = identity.person(form.get("person", ""))
        proof = Proof(person, (), identity.now(), {})
        identity.begin(request, response, proof, flow=secrets.token_hex(16))
        return response


def _by_provider(routes: APIRouter, identity: Identity, pages: Pages, provider: "Provider") -> None:
    cookie = f"{identity.cookie}-signin"

    @routes.get("/signin/start")
    def start(after: str = "/", fresh: str = "") -> Response:
        kept, url = provider.start(forms.own_path(after), fresh=bool(fresh))
        response = RedirectResponse(url, status_code=303)
        identity.set_cookie(response, cookie, str(kept), SIGN_IN_WITHIN)
        return response

    @routes.get("/signin/callback")
    def come_back(
        code: str = "", state: str = "", iss: str = "", error: str = "", error_description: str = ""
    ) -> Response:
        if error or not code:
            said = " ".join(f"{error or 'no code'} {error_description}".split())[:300]
            raise ForbiddenError(f"{provider.name} did not sign you in: {said}")
        return pages.page("signing_in.html", None, fields={"code": code, "state": state, "iss": iss})

    @routes.post("/signin/callback", dependencies=[Depends(identity.check_same_origin)])
    def finish(request: Request, form: forms.Filled) -> Response:
        state = form.get("state", "")
        flow = provider.resume(request.cookies.get(cookie, ""), state)
        try:
            proof = provider.finish(flow, form.get("code", ""), form.get("iss", ""))
        except UnprovenError as error:
            who = f"oidc:{error.facts.get('sub', 'unknown')}"
            key, kind = f"signin/{digest(state)}", EvidenceKind.SIGN_IN_REFUSED
            identity.refused(key, who, str(error), error.facts, kind=kind)
            raise
        response = forms.see(forms.own_path(flow.after))
        identity.begin(request, response, proof, flow=state)
        identity.set_cookie(response, cookie, "", timedelta(0))
        return response
