"""Wrong approvals at the end that asks: the ledger's own door, the HTTP interface and the console's forms.

What somebody known tries is in the evidence each time; what a token or somebody unknown tries is there once
an hour, as a flood must not fill the log. What only looks, or is turned away before anything is read, leaves
nothing.
"""

import asyncio
import hmac
import random
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from sqlalchemy import func, select

from authority.policy import Policy
from contracts.approvals import ApprovalRequest, ApprovalState, Verdict
from contracts.errors import ConflictError, ForbiddenError
from contracts.identities import Scope, TokenOrder
from contracts.incidents import Severity
from contracts.plans import Needs, Risk
from gateway.identity import decision_form
from ledger import Answer, outbox
from ledger.schema import outbox as messages
from runtime.settings import Settings
from tests.campaigns.forging import Count, Table, memory
from tests.gateway.conftest import NIGHT, Door
from tests.gateway.seed import Clock, Scene, plan
from tests.gateway.test_app import paths

FORM = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}


class Asked:
    """A gateway with a request of every sort, and what is true of them before anybody forges anything."""

    def __init__(self, folder: Path, seeded: int) -> None:
        self.rng = random.Random(seeded)  # noqa: S311  (forgeries that can be repeated, not secrets)
        self.scene = scene = Scene(folder, Clock(NIGHT))
        self.door = Door(scene, Settings(home=folder))
        self.ledger = scene.ledger
        self.numbers = 1
        self.incident = scene.open_incident()
        scene.take(self.incident)
        self.waiting = self.ask()
        step = plan(scene.clock, self.incident, 2).steps[0]
        self.two = self.ask(steps=(step.model_copy(update={"needs": Needs.TWO}),))
        scene.decide(self.two)
        self.denied = self.ask(steps=(step.model_copy(update={"needs": Needs.DENIED}),))
        self.high = self.ask(steps=(step.model_copy(update={"risk": Risk.HIGH}),))
        self.authored = self.ask(author="ada", fresh=True)
        self.otherwise = self.ask(policy_digest="1" * 64)
        self.decided, self.withdrawn = self.ask(), self.ask()
        scene.decide(self.decided, Verdict.REJECT, "no")
        self.ledger.approvals.close(self.withdrawn.id, ApprovalState.WITHDRAWN, "it is over")
        self.late = self.ask(expires_at=scene.clock() + timedelta(seconds=1))
        declared = self.ledger.incidents.declare(
            title="slow",
            service="web",
            environment="production",
            severity=Severity.SEV2,
            person="ada",
            trace={},
        )
        scene.take(declared.id)
        self.own = self.ask(declared.id)
        scene.clock.forward(seconds=2)
        self.ledger.approvals.close(self.late.id, ApprovalState.EXPIRED, "nobody answered")
        self.reader: httpx.AsyncClient | None = None
        self.known = 0
        self.truth = self.state()

    def ask(self, incident: str = "", **changes: Any) -> ApprovalRequest:
        """Ask about another plan; it waits for as long as the campaign lasts."""
        self.numbers += 1
        longest = {"expires_at": self.scene.clock() + timedelta(days=300)}
        return self.scene.ask(incident or self.incident, self.numbers, **(longest | changes))

    def check(self, count: Count) -> None:
        """Count what was decided, and what looks as if it were."""
        count.acted += len(set(self.state()) ^ set(self.truth))

    def acts(self) -> None:
        """Let the commander decide, so that the world is one in which somebody can."""
        self.decide(self.waiting, "ada")
        assert self.state() != self.truth

    def state(self) -> list[str]:
        """Give what may not change: every request with its answer, and the decisions that are delivered."""
        requests = [one.model_dump_json() for one in self.ledger.approvals.list(limit=1_000)]
        query = select(func.count()).where(messages.c.kind == outbox.DECISION)
        with self.ledger.database.read() as connection:
            return [*requests, str(connection.scalar(query))]

    # At the ledger's own door.

    def decide(self, request: ApprovalRequest, person: str, **changes: Any) -> None:
        """Decide as the gateway does."""
        values: dict[str, Any] = {
            "verdict": Verdict.APPROVE,
            "plan_digest": request.plan_digest,
            "authenticated_by": "oidc",
            "reason": f"{self.rng.getrandbits(32):x}",
        }
        answer = Answer(person=person, **values | changes)
        self.ledger.approvals.decide(request.id, answer, policy=Policy(), signer=self.scene.signer, trace={})

    def verdict(self) -> Verdict:
        """Pick one."""
        return self.rng.choice(list(Verdict))

    def not_the_commander(self) -> None:
        """Somebody who does not command the incident, or nobody at all."""
        odd = ["grace", "linus", "mallory", "", "ADA", "ada ", "ada\x00", "аda", "stanch", "ada,grace", "*"]  # noqa: RUF001
        self.decide(self.waiting, self.rng.choice(odd), verdict=self.verdict())

    def breaks_glass(self) -> None:
        """Somebody breaks the glass who may not."""
        person = self.rng.choice(["mallory", "", "linus", "ada\u200b"])
        self.decide(self.waiting, person, break_glass=True)

    def requester(self) -> None:
        """The person who declared the incident approves its plan."""
        self.decide(self.own, "ada")

    def fresh_author(self) -> None:
        """The author of a playbook that has not helped anybody yet approves its plan."""
        self.decide(self.authored, "ada")

    def second_of_two(self) -> None:
        """The second approval comes from somebody who may not give it."""
        self.decide(self.two, self.rng.choice(["mallory", "", "ADA", "linus "]))

    def what_is_denied(self) -> None:
        """The commander approves what the policy denies."""
        self.decide(self.denied, "ada", steps=self.rng.choice([(), (1,)]))

    def stale_digest(self) -> None:
        """The digest is not of the plan that is asked about."""
        its = self.rng.choice([f"{self.rng.getrandbits(256):064x}", "", self.two.plan_digest, "x" * 5_000])
        self.decide(self.waiting, "ada", plan_digest=its, verdict=self.verdict())

    def too_late(self) -> None:
        """The request has expired, was withdrawn, or was answered otherwise."""
        request = self.rng.choice([self.late, self.withdrawn, self.decided])
        self.decide(request, self.rng.choice(["ada", "grace"]))

    def other_policy(self) -> None:
        """The plan was sealed under another policy."""
        self.decide(self.otherwise, "ada")

    # By HTTP.

    def path(self, request: ApprovalRequest | None = None) -> str:
        """Give where a decision goes."""
        return f"/v1/approvals/{(request or self.waiting).id}/decision"

    def order(self, request: ApprovalRequest | None = None) -> dict[str, Any]:
        """Give a yes as JSON."""
        digest = (request or self.waiting).plan_digest
        return {"verdict": "approve", "plan_digest": digest, "reason": f"{self.rng.getrandbits(32):x}"}

    async def post(
        self, headers: Mapping[str, str], request: ApprovalRequest | None = None
    ) -> httpx.Response:
        """Send a yes with these headers."""
        async with self.door.client(**headers) as client:
            self.known = self.ledger.evidence.size()
            return await client.post(self.path(request), json=self.order(request))

    def bearer(
        self, *scopes: Scope, person: str | None = "ada", **lasts: float
    ) -> tuple[str, dict[str, str]]:
        """Make an API token; give its id and the header with it."""
        order = TokenOrder(name="t", person=person, scopes=scopes, lasts=timedelta(**(lasts or {"hours": 1})))
        token, secret = self.ledger.tokens.create(order, by="ada")
        return token.id, {"Authorization": f"Bearer {secret}"}

    async def no_token(self) -> httpx.Response:
        """Nobody says who it is."""
        return await self.post(
            self.rng.choice([{}, {"X-Stanch-Person": "ada"}, {"Cookie": "stanch_session=x"}])
        )

    async def wrong_token(self) -> httpx.Response:
        """A token that is none of ours, or nearly one."""
        right = self.door.token
        at = self.rng.randrange(len(right))
        near = right[:at] + ("-" if right[at] != "-" else "_") + right[at + 1 :]
        sent = self.rng.choice(
            [near, right[:-1], f"{right}x", right.swapcase(), f"{self.rng.getrandbits(256):x}"]
        )
        scheme = self.rng.choice(["Bearer", "Basic", "", "Token"])
        return await self.post({"Authorization": f"{scheme} {sent}", "X-Stanch-Person": "ada"})

    async def ended_token(self) -> httpx.Response:
        """A token that was revoked, or whose time is over."""
        token, header = self.bearer(Scope.APPROVE, seconds=60)
        if self.rng.random() < 0.5:
            self.ledger.tokens.revoke(token, by="ada")
        else:
            self.scene.clock.forward(seconds=61)
        return await self.post(header)

    async def narrow_token(self) -> httpx.Response:
        """A token that may do less."""
        scopes = self.rng.sample([Scope.READ, Scope.DECLARE, Scope.COMMAND, Scope.ALERTS], 2)
        _, header = self.bearer(*scopes)
        return await self.post(header)

    async def token_below_the_risk(self) -> httpx.Response:
        """A token that may approve, but nothing of high risk."""
        return await self.post(self.bearer(Scope.APPROVE)[1], self.high)

    async def anothers_token(self) -> httpx.Response:
        """A machine's token, or a person's who names another."""
        machine = self.rng.random() < 0.5
        scopes = (Scope.READ, Scope.ALERTS) if machine else (Scope.APPROVE,)
        _, header = self.bearer(*scopes, person=None if machine else "grace")
        return await self.post(header | {"X-Stanch-Person": "ada"})

    async def not_in_the_catalogue(self) -> httpx.Response:
        """Local mode's token, for somebody who is not there."""
        person = self.rng.choice(["mallory", "ADA", "ada%20", "%61da%00", "a" * 999])
        return await self.post({"Authorization": f"Bearer {self.door.token}", "X-Stanch-Person": person})

    async def wrong_person(self) -> httpx.Response:
        """Somebody known who does not command the incident, by token or by name."""
        person = self.rng.choice(["grace", "linus"])
        named = {"Authorization": f"Bearer {self.door.token}", "X-Stanch-Person": person}
        return await self.post(self.rng.choice([named, self.bearer(Scope.APPROVE, person=person)[1]]))

    async def signed_in(self) -> tuple[httpx.AsyncClient, str]:
        """Sign in as a browser does; give it, and the secret of its session."""
        browser = await self.door.browser()
        return browser, browser.cookies["stanch_session"]

    def form(self, secret: str, about: str = "", **changes: str) -> dict[str, str]:
        """Give the filled form of a yes; its token is of a session and of what it is about."""
        about = about or decision_form(self.waiting.id, self.waiting.plan_digest, "approve")
        token = hmac.digest(secret.encode(), f"form|{about}".encode(), "sha256").hex()
        fields = {
            "token": token,
            "verdict": "approve",
            "plan_digest": self.waiting.plan_digest,
            "step-1": "on",
        }
        return fields | {"reason": f"{self.rng.getrandbits(32):x}"} | changes

    async def send(
        self, browser: httpx.AsyncClient, fields: dict[str, str], **headers: str
    ) -> httpx.Response:
        """Send the form, and close the browser."""
        path = f"/approvals/{self.waiting.id}/decision"
        self.known = self.ledger.evidence.size()
        answer = await browser.post(path, data=fields, headers=FORM | headers)
        await browser.aclose()
        return answer

    async def ended_session(self) -> httpx.Response:
        """A cookie that was copied before its person signed out, or whose time is over, or that is none."""
        browser, secret = await self.signed_in()
        way = self.rng.choice(["out", "over", "none"])
        if way == "out":
            await browser.post("/signout", data=self.form(secret, " "), headers=FORM)
            self.ledger.sessions.end(secret)
        elif way == "over":
            self.scene.clock.forward(hours=2)
        cookie = f"{self.rng.getrandbits(256):x}" if way == "none" else secret
        browser.cookies.clear()
        browser.cookies.set("stanch_session", cookie)
        return await self.send(browser, self.form(cookie))

    async def form_of_something_else(self) -> httpx.Response:
        """A form whose token is of another plan, request, verdict or session, or is none."""
        browser, secret = await self.signed_in()
        ours = (self.waiting.id, self.waiting.plan_digest, "approve")
        abouts = [
            decision_form(self.two.id, *ours[1:]),
            decision_form(ours[0], self.two.plan_digest, ours[2]),
            decision_form(*ours[:2], self.rng.choice(["reject", "force", "APPROVE", ""])),
            "|",
        ]
        fields = self.form(secret, self.rng.choice(abouts))
        odd = self.rng.choice(["", "x" * 43, "\x00", f"{self.rng.getrandbits(256):064x}"])
        session = self.form(f"{self.rng.getrandbits(256):x}")
        return await self.send(browser, self.rng.choice([fields, fields | {"token": odd}, session]))

    async def form_from_elsewhere(self) -> httpx.Response:
        """The right form, sent by a page of another origin."""
        browser, secret = await self.signed_in()
        origins = [
            "http://evil.example",
            "http://127.0.0.1:3000",
            "https://127.0.0.1",
            "http://localhost",
            "x",
        ]
        return await self.send(browser, self.form(secret), Origin=self.rng.choice(origins))

    async def form_from_another_site(self) -> httpx.Response:
        """The right form, and the browser says that a page of another site sent it."""
        browser, secret = await self.signed_in()
        headers = {"Sec-Fetch-Site": self.rng.choice(["cross-site", "same-site", "none", "x"])}
        return await self.send(browser, self.form(secret), **headers)

    async def stale_form(self) -> httpx.Response:
        """The form of a plan that was shown once, sent for the request that is asked now."""
        browser, secret = await self.signed_in()
        its = f"{self.rng.getrandbits(256):064x}"
        about = decision_form(self.waiting.id, its, "approve")
        return await self.send(browser, self.form(secret, about, plan_digest=its))

    async def odd_name(self) -> httpx.Response:
        """A request that is not there, under an odd name."""
        odd = [
            "APR-0",
            "APR-999999",
            "APR-1\x00",
            "APR--1",
            "INC-1",
            "../APR-1",
            "%2e%2e",
            "apr-1",
            "APR-1 ",
            "é",
        ]
        name = quote(f"{self.rng.choice(odd)}{self.rng.choice(['', self.rng.getrandbits(99)])}", safe="")
        headers = {"Authorization": f"Bearer {self.door.token}", "X-Stanch-Person": "ada"}
        async with self.door.client(**headers) as client:
            return await client.post(f"/v1/approvals/{name}/decision", json=self.order())

    async def looking(self) -> httpx.Response:
        """A GET of any address, with a yes in its query: a link, a crawler, a mail that is previewed."""
        words = {
            "verdict": "approve",
            "plan_digest": self.waiting.plan_digest,
            "person": "ada",
            "step-1": "on",
        }
        words |= {"_method": "POST", "token": self.door.token, "reason": f"{self.rng.getrandbits(32):x}"}
        some = dict(self.rng.sample(sorted(words.items()), 5))
        path = self.rng.choice([*paths(self.door, "GET"), *paths(self.door, "POST"), self.path()])
        headers = {"Authorization": f"Bearer {self.door.token}", "X-Stanch-Person": "ada"}
        self.reader = self.reader or await self.door.browser()
        self.known = self.ledger.evidence.size()
        return await self.reader.get(
            f"{path}?{urlencode(some)}", headers=self.rng.choice([{}, headers]), follow_redirects=False
        )

    # Trying it.

    def attempt(self, forge: "Direct", count: Count) -> None:
        """Try one forgery at the ledger's own door, and count."""
        self.scene.clock.forward(seconds=1)
        known = self.ledger.evidence.size()
        try:
            forge(self)
        except (ConflictError, ForbiddenError):
            pass
        else:
            count.notes.append("not refused")
        added = self.ledger.evidence.size() - known
        count.tried, count.logged, count.entries = (
            count.tried + 1,
            count.logged + (added > 0),
            count.entries + added,
        )

    async def request(self, forge: "Request", count: Count, *, is_hourly: bool) -> None:
        """Try one forgery by HTTP, and count."""
        self.scene.clock.forward(seconds=1)
        self.known = self.ledger.evidence.size()  # each moves it to just before it is sent
        answer = await forge(self)
        is_look = answer.request.method == "GET"
        if not is_look and (answer.is_success or answer.headers.get("location", "").startswith("/incidents")):
            count.notes.append(f"not refused: {answer.status_code} {answer.text[:200]}")
        if answer.status_code >= 500:
            count.notes.append(f"{answer.request.url}: {answer.status_code} {answer.text[:200]}")
        added = self.ledger.evidence.size() - self.known
        count.tried, count.entries = count.tried + 1, count.entries + added
        # What is kept once an hour stands for all like it in that hour.
        count.logged += added > 0 or (is_hourly and count.entries > 0)


Direct = Callable[[Asked], None]
Request = Callable[[Asked], Awaitable[httpx.Response]]

HOURLY = "(kept hourly)"

DIRECT: Mapping[str, Direct] = {
    "T7 digest of another plan": Asked.stale_digest,
    "T7 plan under another policy": Asked.other_policy,
    "T8 not the commander": Asked.not_the_commander,
    "T8 glass broken by the wrong person": Asked.breaks_glass,
    "T8 requester": Asked.requester,
    "T8 author of a fresh playbook": Asked.fresh_author,
    "T8 second of two, not entitled": Asked.second_of_two,
    "T8 denied by the policy": Asked.what_is_denied,
    "T9 expired, withdrawn or answered": Asked.too_late,
}
REQUESTS: Mapping[str, Request] = {
    "T4 form of something else": Asked.form_of_something_else,
    "T4 form from another origin": Asked.form_from_elsewhere,
    "T5 no token (kept hourly)": Asked.no_token,
    "T5 wrong token (kept hourly)": Asked.wrong_token,
    "T5 token revoked or over": Asked.ended_token,
    "T5 token too narrow": Asked.narrow_token,
    "T5 token below the risk (kept hourly)": Asked.token_below_the_risk,
    "T5 token of another": Asked.anothers_token,
    "T5 session ended (kept hourly)": Asked.ended_session,
    "T5 nobody we know (kept hourly)": Asked.not_in_the_catalogue,
    "T7 form of a former plan": Asked.stale_form,
    "T8 not the commander, by HTTP": Asked.wrong_person,
}
# Turned away before anything is read, or asking about nothing, or only looking: that leaves nothing behind.
SILENT: Mapping[str, Request] = {
    "T4 form from another site": Asked.form_from_another_site,
    "T12 request that is not there": Asked.odd_name,
    "T33 GET with a yes in it": Asked.looking,
}


def forge(seeded: int, total: int) -> Table:
    """Try so many wrong approvals at every door."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        asked = Asked(Path(folder), seeded)
        try:
            return asyncio.run(_forge(asked, total))
        finally:
            asked.ledger.close()


async def _forge(asked: Asked, total: int) -> Table:
    table: Table = {}
    each = max(1, total // len((*DIRECT, *REQUESTS, *SILENT)))
    for name, direct in DIRECT.items():
        table[name] = Count()
        for _ in range(each):
            asked.attempt(direct, table[name])
        asked.check(table[name])
    for name, request in {**REQUESTS, **SILENT}.items():
        table[name] = Count(is_silent=name in SILENT)
        asked.scene.clock.forward(hours=1)
        for _ in range(each):
            await asked.request(request, table[name], is_hourly=name.endswith(HOURLY))
        asked.check(table[name])
    if asked.reader:
        await asked.reader.aclose()
    asked.acts()
    return table
