"""What is looked at beside the incidents, as people see it: whether failovers would work, and signals now."""

from fastapi import APIRouter
from starlette.responses import Response

from contracts.errors import NotFoundError
from contracts.readiness import ServiceReadiness
from contracts.watches import SignalNow
from gateway import forms
from gateway.api import Limit
from gateway.asking import READS, By, Looks, Sent
from gateway.orders import Orders
from gateway.pages import Pages
from ledger.readiness import item


class Readinesses:
    """The failovers of the catalogue, and how ready they are."""

    def __init__(self, orders: Orders) -> None:
        self._catalogue = orders.catalogue
        self._ledger = orders.ledger

    def list(self, *, history: int = 0) -> list[ServiceReadiness]:
        """Give all of them, in the catalogue's order."""
        return [
            self._ledger.readiness.get(service, environment, history=history)
            for service, environment, _ in self._catalogue.failovers()
        ]

    def get(self, service: str, environment: str, *, history: int) -> ServiceReadiness:
        """Give one.

        Raises:
            NotFoundError: The catalogue has no such failover.
        """
        self._check(service, environment)
        return self._ledger.readiness.get(service, environment, history=history)

    def run(self, service: str, environment: str) -> ServiceReadiness:
        """Have one looked at now; it only looks, so that whoever is signed in may.

        Raises:
            NotFoundError: The catalogue has no such failover.
        """
        self._check(service, environment)
        self._ledger.watches.hasten(item(service, environment))
        return self._ledger.readiness.get(service, environment, history=0)

    def _check(self, service: str, environment: str) -> None:
        entry = self._catalogue.environment(service, environment)
        if entry is None or entry.failover is None:
            where = f"{environment[:64]!r} in the service catalogue"
            raise NotFoundError(f"{service[:64]!r} has no failover in {where}")


def router(readinesses: Readinesses, orders: Orders) -> APIRouter:
    """Give the routes for programs and the terminal."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/readiness", dependencies=READS, tags=["readiness"])
    def list_readiness() -> list[ServiceReadiness]:
        """List the failovers and whether they would work."""
        return readinesses.list()

    @routes.get("/readiness/{service}/{environment}", dependencies=READS, tags=["readiness"])
    def get_readiness(service: str, environment: str, limit: Limit = 100) -> ServiceReadiness:
        """Show one with its latest looks, oldest first."""
        return readinesses.get(service, environment, history=limit)

    @routes.post("/readiness/{service}/{environment}/run", status_code=202, tags=["readiness"])
    def run_readiness(service: str, environment: str, _: By) -> ServiceReadiness:
        """Have one looked at now; the answer is how it was before."""
        return readinesses.run(service, environment)

    @routes.get("/approvals/{approval}/readings", dependencies=READS, tags=["approvals"])
    def list_readings(approval: str) -> list[SignalNow]:
        """Show how the signals of a plan's steps are while it waits for a decision."""
        return orders.ledger.watches.signals(orders.ledger.approvals.get(approval))

    return routes


def pages(readinesses: Readinesses, pages: Pages) -> APIRouter:
    """Give the page of failovers, and its form."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/readiness")
    def readiness(session: Looks) -> Response:
        return pages.page("readiness.html", session, listed=readinesses.list(history=500))

    @routes.post("/readiness/{service}/{environment}/run")
    def run(service: str, environment: str, _: Sent) -> Response:
        readinesses.run(service, environment)
        return forms.see("/readiness")

    return routes
