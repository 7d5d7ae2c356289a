"""The HTTP application: puts the rooms behind one front door."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from authority.decisions import Signer
from contracts import errors
from contracts.base import Frozen
from contracts.catalogue import Catalogue
from contracts.playbooks import Playbook
from gateway import (
    api,
    authority,
    console,
    deciding,
    freezing,
    handoffs,
    intake,
    metrics,
    mitigations,
    notices,
    readiness,
    signin,
    tokens,
)
from gateway.edge import Answer, Edge
from gateway.engine import Engine
from gateway.identity import OIDC, FreshSignInNeededError, Identity, SignInNeededError, UnauthenticatedError
from gateway.intake import RefusedDeliveryError
from gateway.live import Live
from gateway.orders import Orders
from gateway.pages import Pages
from ledger import Ledger
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings

__all__ = ["Engine", "build"]

_STATUSES: dict[type[errors.StanchError], int] = {
    UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.ProviderUnavailableError: 503,
    errors.StanchError: 422,
}
_FOR_PROGRAMS = ("/v1/", "/livez", "/readyz", "/metrics", "/openapi.json")
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}
_CHECK_WITHIN = 3.0  # seconds: a probe that waits longer is as good as a failed one


log = logging.getLogger(__name__)


class Problem(Frozen):
    """What every error looks like: one sentence."""

    error: str


class Dependency(Frozen):
    """How one thing that we depend on is."""

    ok: bool
    detail: str = ""


_GOOD = Dependency(ok=True)


class Readiness(Frozen):
    """Whether alerts and decisions can be taken; without the engine they can, and wait for it."""

    ready: bool
    dependencies: dict[str, Dependency]


def build(
    settings: Settings,
    ledger: Ledger,
    catalogue: Catalogue,
    signer: Signer,
    *,
    wake: Callable[[], None],
    engine: Engine,
    playbooks: Sequence[Playbook],
    clock: Callable[[], datetime] = utc_now,
) -> FastAPI:
    """Put the application together.

    Args:
        settings: Where the local token is, and what a sender must show.
        ledger: What everything is read from and written to.
        catalogue: The people and services there are.
        signer: Signs decisions.
        wake: Tells the dispatcher that the ledger has something for it; called from any thread.
        engine: What previews ask, and what ``/readyz`` reports on.
        playbooks: What may be previewed, and asked for by name.
        clock: The time.

    Raises:
        InputError: Local mode is to listen beyond loopback, or the settings of OIDC cannot be used.
    """
    identity = Identity(settings, catalogue, ledger, clock=clock)
    measures = metrics.Metrics(ledger, clock=clock)
    live = Live(ledger.evidence)
    pages = Pages(ledger, catalogue, clock=clock)
    orders = Orders(
        ledger=ledger,
        catalogue=catalogue,
        identity=identity,
        signer=signer,
        policy=load_policy(settings),
        playbooks=sorted(playbooks, key=lambda playbook: (playbook.order, playbook.name)),
        wake=wake,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await live.stop()
        with suppress(errors.ProviderUnavailableError):
            await asyncio.to_thread(identity.note_seen)

    app = FastAPI(
        title="Stanch",
        version=version("stanch"),
        summary="The mitigation runner that an Incident Commander trusts at 3 a.m.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would lead to plain http behind a proxy, and to whatever host was named
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        responses={
            "4XX": {"model": Problem, "description": "Refused; the sentence says why."},
            "5XX": {"model": Problem, "description": "Not available; try again."},
        },
    )
    app.state.live = live
    app.state.identity = identity

    def answer(path: str, status: int, sentence: str) -> Response:
        headers = _HEADERS.get(status)
        if path.startswith(_FOR_PROGRAMS):
            return JSONResponse({"error": sentence}, status, headers)
        page = pages.problem(path, status, sentence)
        page.headers.update(headers or {})
        return page

    app.add_middleware(Edge, metrics=measures, answer=answer, local=settings.identity != OIDC)
    _handle_errors(app, answer, identity)
    _health(app, ledger, engine, measures)
    powers = authority.Authority(orders)
    handovers = handoffs.Handovers(orders)
    questions = deciding.Deciding(powers, pages)
    in_force = mitigations.Mitigations(orders)
    failovers = readiness.Readinesses(orders)
    rooms = console.Console(orders, handovers, questions, pages)
    for routes in (
        intake.router(intake.Intake(orders, measures, most=settings.max_body)),
        api.incidents_router(orders, live),
        api.approvals_router(orders),
        authority.router(powers),
        api.playbooks_router(orders, engine),
        handoffs.router(handovers),
        handoffs.pages(handovers, orders),
        notices.router(orders),
        deciding.pages(questions),
        console.router(rooms, pages),
        signin.router(identity, pages, signin.provider(settings, catalogue, clock=clock)),
        freezing.api(orders),
        freezing.pages(orders),
        mitigations.router(in_force),
        mitigations.pages(in_force, pages),
        readiness.router(failovers, orders),
        readiness.pages(failovers, pages),
        tokens.api(identity, ledger),
        tokens.pages(identity, ledger, pages),
    ):
        app.include_router(routes)
    return app


def _handle_errors(app: FastAPI, answer: Answer, identity: Identity) -> None:
    @app.exception_handler(errors.StanchError)
    async def known(request: Request, error: errors.StanchError) -> Response:
        is_page = not request.url.path.startswith(_FOR_PROGRAMS)
        if isinstance(error, SignInNeededError) or (isinstance(error, FreshSignInNeededError) and is_page):
            return signin.needed(identity, request, fresh=isinstance(error, FreshSignInNeededError))
        if isinstance(error, RefusedDeliveryError):
            return answer(request.url.path, error.status, str(error))
        status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
        return answer(request.url.path, status, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return answer(request.url.path, 400, "the body is not JSON")
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        return answer(request.url.path, 422, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        sentences = {
            404: "there is nothing at this address",
            405: f"{request.method} is not for this address",
        }
        response = answer(request.url.path, error.status_code, sentences.get(error.status_code, error.detail))
        response.headers.update(error.headers or {})
        return response


def _health(app: FastAPI, ledger: Ledger, engine: Engine, measures: metrics.Metrics) -> None:
    @app.get("/livez", tags=["health"])
    async def is_alive() -> dict[str, bool]:
        """Say that the process runs."""
        return {"alive": True}

    said: dict[str, Dependency] = {}

    def can_be_written() -> None:
        ledger.check()
        ledger.database.check_writes()

    @app.get("/readyz", tags=["health"], responses={503: {"model": Readiness}})
    async def is_ready(response: Response) -> Readiness:
        """Say whether alerts and decisions are taken: the ledger can be written; the engine may be away."""
        checks = {"ledger": asyncio.to_thread(can_be_written), "engine": engine.check()}
        states = await asyncio.gather(*(_check(check) for check in checks.values()))
        dependencies = dict(zip(checks, states, strict=True))
        for name, now in dependencies.items():
            before = said.get(name, _GOOD)
            said[name] = now
            if now.ok != before.ok:
                log.log(logging.INFO if now.ok else logging.ERROR, "%s: %s", name, now.detail or "well again")
        ready = dependencies["ledger"].ok
        if not ready:
            response.status_code = 503
            response.headers.update(_HEADERS[503])
        return Readiness(ready=ready, dependencies=dependencies)

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    def get_metrics() -> PlainTextResponse:
        """Give what Prometheus scrapes."""
        return PlainTextResponse(measures.exposition(), media_type=metrics.CONTENT_TYPE)


async def _check(check: Awaitable[None]) -> Dependency:
    try:
        async with asyncio.timeout(_CHECK_WITHIN):
            await check
    except errors.ProviderUnavailableError as error:
        return Dependency(ok=False, detail=str(error))
    except TimeoutError:
        return Dependency(ok=False, detail=f"no answer within {_CHECK_WITHIN:.0f} s")
    return _GOOD
