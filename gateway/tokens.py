"""API tokens: a page where a person makes and ends their own, and an interface that ends anybody's."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.responses import Response

from contracts.errors import InputError
from contracts.identities import OF_ONESELF, ApiToken, Scope, TokenOrder
from gateway import forms
from gateway.asking import Looks, Sent
from gateway.identity import Identity, Session
from gateway.pages import Pages
from ledger import Ledger

LIVES: Final = {"1": "1 day", "7": "7 days", "30": "30 days", "90": "90 days", "365": "1 year"}
MEANINGS: Final = {
    Scope.READ: "look at everything",
    Scope.DECLARE: "declare incidents",
    Scope.COMMAND: "acknowledge, assign, resolve, plan again",
    Scope.APPROVE: "approve and reject plans, but none of high risk",
    Scope.APPROVE_HIGH: "approve plans of high risk too, without a fresh sign-in",
}


def api(identity: Identity, ledger: Ledger) -> APIRouter:
    """Give the routes for who looks after everybody's tokens."""
    routes = APIRouter(prefix="/v1", tags=["tokens"])

    @routes.get("/tokens", dependencies=[Depends(identity.admin)])
    def list_tokens() -> list[ApiToken]:
        """List everybody's API tokens, the newest first; nobody can read their secrets."""
        return [_with_use(identity, token) for token in ledger.tokens.list()]

    @routes.post("/tokens/{token}/revoke")
    def revoke_token(token: str, by: Annotated[str, Depends(identity.admin)]) -> ApiToken:
        """End an API token at once; again changes nothing."""
        return ledger.tokens.revoke(token, by=by)

    return routes


def pages(identity: Identity, ledger: Ledger, pages: Pages) -> APIRouter:
    """Give the page of a person's own tokens; a new one needs a fresh sign-in, as it outlives the session."""
    routes = APIRouter(include_in_schema=False)

    def page(session: Session, secret: str = "") -> Response:
        listed = ledger.tokens.list(session.person.id)
        return pages.page(
            "tokens.html",
            session,
            fresh=identity.is_fresh(session.principal),
            secret=secret,
            tokens=[_with_use(identity, token) for token in listed],
            scopes={scope.value: MEANINGS[scope] for scope in Scope if scope in OF_ONESELF},
            lives=LIVES,
            at=identity.now(),
        )

    @routes.get("/tokens")
    def own_tokens(session: Looks) -> Response:
        return page(session)

    @routes.post("/tokens")
    def make_token(session: Sent, form: forms.Filled) -> Response:
        identity.check_fresh(session.principal, "making an API token")
        try:
            order = TokenOrder(
                name=form.get("name", ""),
                person=session.person.id,
                scopes=tuple(scope for scope in Scope if scope in OF_ONESELF and form.get(f"scope-{scope}")),
                lasts=timedelta(days=int(form.get("days", "30"))),
            )
        except (ValidationError, ValueError, OverflowError) as error:
            raise InputError(
                "a token needs a name of at most 100 characters, at least one scope, and 1 to 366 days"
            ) from error
        _, secret = ledger.tokens.create(order, by=session.person.id)
        return page(session, secret)

    @routes.post("/tokens/{token}/revoke")
    def revoke_own(token: str, session: Sent) -> Response:
        ledger.tokens.revoke(token, by=session.person.id, of=session.person.id)
        return forms.see("/tokens")

    return routes


def _with_use(identity: Identity, token: ApiToken) -> ApiToken:
    return token.model_copy(update={"used_at": identity.seen(token)})
