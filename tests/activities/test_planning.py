"""Planning: what is proposed, sealed and asked, and what is said when nothing can be."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

import playbooks.kit
import worker
from activities.k8s import ScaleDeployment, SetAutoscalerLimits
from activities.k8s.fake import FakeKubernetes, manifest
from activities.launchdarkly import RecentFlagChanges
from activities.launchdarkly.fake import FakeLaunchDarkly
from activities.planning import Planning
from activities.prometheus.fake import FakePrometheus
from authority.policy import Policy
from authority.seals import digest
from contracts.catalogue import (
    Catalogue,
    Cluster,
    Deployment,
    Flag,
    LaunchDarklyProject,
    Prometheus,
    Service,
    ServiceEnvironment,
    Signal,
)
from contracts.errors import ForbiddenError
from contracts.incidents import OPEN_PHASES, Alert, Attempt, AttemptEnd, Incident, Phase, Severity
from contracts.messages import (
    Command,
    CommandKind,
    PlanAnswer,
    PlanRequest,
    PreviewAnswer,
    PreviewRequest,
    RecordRequest,
)
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import ActionCall, Difference, Plan, Proposal, ProposedStep, Risk, Target
from contracts.playbooks import Match, Playbook, PlaybookParams, ServiceLook
from ledger import Ledger
from runtime.clock import utc_now

QUERY = "error_rate"


class Scene:
    """A shop on fakes, with an incident."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self.cluster = stack.enter_context(FakeKubernetes())
        self.flags = stack.enter_context(FakeLaunchDarkly(utc_now))
        self.metrics = stack.enter_context(FakePrometheus(utc_now))
        self.metrics.set(QUERY, ({}, "0.4"))
        self.cluster.create("deployments", manifest("web", "shop:v1"))
        self.flags.add_flag("shop", "production", "new")
        self.ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=utc_now)
        self.ledger.migrate()
        stack.callback(self.ledger.close)
        self.token = "api-token"  # noqa: S105  (the fake's)
        self.kubeconfig = self.cluster.kubeconfig(home / "kubeconfig")
        self.deployment = Deployment(cluster="demo", namespace="shop", name="web")
        self.playbooks = playbooks.kit.catalogue()
        alert = Alert(
            source="test",
            fingerprint="f",
            starts_at=utc_now(),
            name="HighErrorRate",
            service="shop",
            severity=Severity.SEV2,
            signal="error_rate",
            labels={"namespace": "kube-system", "deployment": "coredns", "flag": "everything"},
        )
        self.ledger.inbox.accept("test", b"{}", [alert], trace={})
        self.ledger.inbox.dispatch()
        (self.incident,) = self.ledger.incidents.list()

    def catalogue(self) -> Catalogue:
        """Give the catalogue as it is now."""
        return Catalogue(
            clusters=(Cluster(name="demo", kubeconfig=str(self.kubeconfig)),),
            launchdarkly=(LaunchDarklyProject(project="shop", api=self.flags.url),),
            prometheus=(Prometheus(name="main", url=self.metrics.url),),
            services=(
                Service(
                    name="shop",
                    environments={
                        "production": ServiceEnvironment(
                            deployments=(self.deployment,),
                            flags=(Flag(project="shop", environment="production", key="new"),),
                            signals={
                                "error_rate": Signal(prometheus="main", query=QUERY, healthy_below=0.05)
                            },
                        )
                    },
                ),
            ),
        )

    def planning(self) -> Planning:
        """Give the activities as a fresh worker has them."""
        catalogue = self.catalogue()
        return Planning(
            ledger=self.ledger,
            catalogue=catalogue,
            playbooks=self.playbooks,
            registry=worker.registry(catalogue, secret=lambda _: self.token),
            policy=Policy(),
            clock=utc_now,
        )

    def plan(
        self, number: int = 1, incident: Incident | None = None, order: Command | None = None
    ) -> PlanAnswer:
        """Ask for a plan."""
        if order is not None:
            self.ledger.incidents.command(self.incident.id, order, trace={})
        request = PlanRequest(incident=incident or self.incident, number=number, order=order)
        answer: PlanAnswer = ActivityEnvironment().run(self.planning().plan, request)
        return answer

    def tried(self, *plans: tuple[Plan, AttemptEnd]) -> None:
        """Take down how plans ended."""
        attempts = tuple(
            Attempt(
                mitigation=plan.mitigation,
                playbook=plan.playbook,
                title=plan.title,
                plan_digest=digest(plan),
                end=end,
                actions=tuple(str(step.action) for step in plan.steps),
            )
            for plan, end in plans
        )
        record = RecordRequest(incident="INC-1", version=1, phase=Phase.TRIAGE, attempts=attempts)
        self.ledger.incidents.record(record)

    def sealed(self, answer: PlanAnswer) -> Plan:
        """Give the sealed plan of an answer."""
        return self.ledger.approvals.plan(answer.plan_digest)

    def use(self, plan: Any, *, name: str = "own", order: int = 1) -> None:
        """Let one plan function of the test's be the only playbook."""
        template = self.playbooks[0]
        own = replace(template, name=name, order=order, plan=plan, matches=(Match(),), params=PlaybookParams)
        self.playbooks = (own,)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give a shop with an incident."""
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


def test_plan_shows_what_it_would_do(scene: Scene) -> None:
    """A sealed plan has the exact change, the baseline, the undo or why there is none, and a digest."""
    answer = scene.plan()
    plan = scene.sealed(answer)
    step = plan.steps[0]

    assert answer.plan_digest == digest(plan)
    assert plan.playbook == "restart-pods"
    assert step.change
    assert step.verification is not None
    assert step.verification.baseline is not None
    assert step.verification.baseline.value == 0.4
    assert step.undo is None
    assert step.undo_note
    assert step.refusals == ()


def test_planning_twice_asks_once(scene: Scene) -> None:
    """A planning that is repeated gives the plan that was asked, also when the world has changed."""
    first = scene.plan()
    scene.flags.turn("shop", "production", "new", on=False)
    second = scene.plan()

    assert (second.approval, second.plan_digest) == (first.approval, first.plan_digest)


def test_labels_choose_no_target(scene: Scene) -> None:
    """Whatever an alert's labels say, the plan's target is the catalogue's."""
    plan = scene.sealed(scene.plan())

    assert [str(step.action.target) for step in plan.steps] == ["k8s:deployment/demo/shop/web"]


def test_missing_deployment_is_said(scene: Scene) -> None:
    """A deployment that is not there leads to the next playbook, and the answer names it."""
    scene.deployment = Deployment(cluster="demo", namespace="shop", name="gone")
    answer = scene.plan()

    assert answer.playbook == "disable-flag"
    assert "gone" in answer.notes[0]


def test_unknown_cluster_and_refused_credential_are_said(scene: Scene) -> None:
    """With no cluster to find and a refused token there is no plan, and every reason is given."""
    scene.kubeconfig = scene.kubeconfig.with_name("nowhere")
    scene.token = "wrong"  # noqa: S105  (it is)
    answer = scene.plan()

    assert answer.approval == ""
    said = {name: why for name, _, why in (note.partition(": ") for note in answer.notes)}
    assert "nowhere" in said["restart-pods"]
    assert "nowhere" in said["roll-back-deployment"]
    assert "token" in said["disable-flag"]


def test_refused_plan_is_shown_when_there_is_none_better(scene: Scene) -> None:
    """A plan that would be refused says so before anybody approves it, and a better one comes first."""
    scene.kubeconfig = scene.cluster.kubeconfig(scene.kubeconfig, token="observer-token")  # noqa: S106  (the fake's)
    first = scene.plan()
    scene.flags.state.tokens["api-token"] = ["viewProject"]
    second = scene.plan(2)

    assert first.playbook == "disable-flag"
    assert scene.sealed(second).refusals


def test_only_the_catalogue_names_targets(scene: Scene) -> None:
    """A playbook that names a target of somebody else gets no plan."""

    async def plan(incident: Incident, params: PlaybookParams, look: ServiceLook) -> Proposal:  # noqa: ARG001
        target = Target(provider="k8s", kind="deployment", path=("demo", "kube-system", "coredns"))
        arguments = {
            "cluster": "demo",
            "namespace": "kube-system",
            "name": "coredns",
            "restarted_at": "2026-11-21T14:50:00Z",
        }
        call = ActionCall(name="k8s.restart_deployment", target=target, arguments=dict(arguments))
        return Proposal(title="t", rationale="r", steps=(ProposedStep(title="s", action=call),))

    scene.use(plan)
    answer = scene.plan()

    assert answer.approval == ""
    assert "the catalogue does not give it to shop" in answer.notes[0]


def test_target_cannot_be_disguised(scene: Scene) -> None:
    """A call whose arguments are for another target than it says gets no plan."""

    async def plan(incident: Incident, params: PlaybookParams, look: ServiceLook) -> Proposal:  # noqa: ARG001
        arguments = {
            "cluster": "demo",
            "namespace": "kube-system",
            "name": "coredns",
            "restarted_at": "2026-11-21T14:50:00Z",
        }
        call = ActionCall(
            name="k8s.restart_deployment", target=scene.deployment.target(), arguments=dict(arguments)
        )
        return Proposal(title="t", rationale="r", steps=(ProposedStep(title="s", action=call),))

    scene.use(plan)
    answer = scene.plan()

    assert answer.approval == ""
    assert "its arguments are for" in answer.notes[0]


def test_mistake_in_a_playbook_is_a_note(scene: Scene) -> None:
    """A playbook that raises is named, and stops nobody else."""

    async def plan(incident: Incident, params: PlaybookParams, look: ServiceLook) -> Proposal:  # noqa: ARG001
        raise KeyError("oops")

    others = scene.playbooks
    scene.use(plan)
    scene.playbooks += others
    answer = scene.plan()

    assert answer.playbook == "restart-pods"
    assert "own: failed with KeyError" in answer.notes[0]


@pytest.mark.parametrize("within", [timedelta(0), timedelta(days=999_999_999)])
def test_mistake_about_a_request_is_one_line(scene: Scene, within: timedelta) -> None:
    """What a playbook asks for wrongly is said in one line, to who previews it and in the plan's notes."""

    async def plan(incident: Incident, params: PlaybookParams, look: ServiceLook) -> Proposal:  # noqa: ARG001
        await look.at(
            RecentFlagChanges(project="shop", environment="production", keys=("new",), within=within)
        )
        raise AssertionError

    scene.use(plan)
    request = PreviewRequest(playbook="own", incident=scene.incident)
    preview: PreviewAnswer = ActivityEnvironment().run(scene.planning().preview, request)
    (note,) = scene.plan().notes

    assert note == f"own: {preview.note}"
    assert note.startswith("own: failed with ")
    assert "\n" not in note
    assert "https" not in note


def test_what_was_tried_is_not_proposed_again(scene: Scene) -> None:
    """An action that did not help on its target is not proposed again in the same incident."""
    tried = scene.sealed(scene.plan())
    scene.tried((tried, AttemptEnd.INEFFECTIVE))

    assert scene.plan(2).playbook == "disable-flag"


def test_whoever_asks_does_not_say_what_it_is_about(scene: Scene) -> None:
    """A plan is for the incident as the ledger has it, whatever service the request names."""
    elsewhere = {"service": "other", "environment": "staging", "phase": Phase.TRIAGE, "alerts": ()}
    plan = scene.sealed(scene.plan(incident=scene.incident.model_copy(update=elsewhere)))

    assert (plan.service, plan.environment) == ("shop", "production")


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in OPEN_PHASES])
def test_nothing_is_planned_for_an_incident_that_is_over(scene: Scene, phase: Phase) -> None:
    """Who asks for a plan when an incident has ended gets none, and nobody is asked for an approval."""
    scene.ledger.incidents.record(RecordRequest(incident="INC-1", version=1, phase=phase))
    answer = scene.plan()

    assert answer.notes == (f"INC-1 is {phase}: nothing is planned for it any more",)
    assert scene.ledger.approvals.list() == []


def wish(playbook: str, **params: Any) -> Command:
    """Give Bo's order for a playbook."""
    facts = {"id": "1", "kind": CommandKind.REPLAN, "person": "bo", "reason": "the graph"}
    return Command(**facts, playbook=playbook, params=params)


def test_a_person_names_the_playbook(scene: Scene) -> None:
    """The named playbook is asked, with its parameters, also where it does not fit; the plan says who."""
    plan = scene.sealed(scene.plan(order=wish("scale-out", most=4, factor=3.0)))

    assert (plan.playbook, plan.requester) == ("scale-out", "bo")
    assert plan.steps[0].action.arguments["replicas"] == 4
    assert plan.rationale.startswith("bo asks for scale-out (most 4, factor 3.0): the graph. ")
    assert scene.sealed(scene.plan(2)).requester is None


def test_a_named_playbook_runs_again(scene: Scene) -> None:
    """What was tried is proposed again to who names it, and the plan says what became of it."""
    tried = scene.sealed(scene.plan())
    scene.tried((tried, AttemptEnd.INEFFECTIVE))
    plan = scene.sealed(scene.plan(2, order=wish("restart-pods")))

    assert plan.playbook == "restart-pods"
    assert f"It was tried before, in {tried.mitigation} (ineffective)." in plan.rationale


@pytest.mark.parametrize(
    ("order", "note"),
    [
        (wish("nonsense"), "no playbook is called 'nonsense'; there is restart-pods"),
        (wish("scale-out", most="many"), "parameters of scale-out: most: Input should be a valid integer"),
        (wish("scale-out", least=1), "there are factor, most"),
        (wish("fail-over"), "fail-over: shop has no failover in production"),
    ],
)
def test_a_wish_that_cannot_be_is_said(scene: Scene, order: Command, note: str) -> None:
    """A named playbook that has no plan is not replaced by another one; the reason is given."""
    answer = scene.plan(order=order)

    assert answer.approval == ""
    assert note in "; ".join(answer.notes)
    assert "scale-out: parameters" not in answer.notes[0]


def test_a_named_playbook_shows_what_changed_since_its_plan_was_approved(scene: Scene) -> None:
    """After a no and a drift the plan that is asked for by name shows what changed since the drifted one."""
    order = wish("disable-flag", flag="new")
    first, second = (scene.sealed(scene.plan(number, order=order)) for number in (1, 2))
    ends = ((first, AttemptEnd.REJECTED), (second, AttemptEnd.DRIFTED))
    scene.tried(*ends)
    scene.flags.add_rule("shop", "production", "new")
    third = scene.sealed(scene.plan(3, order=order))

    assert third.supersedes == digest(second)
    assert third.differences


def test_what_drifted_is_shown_where_the_next_plan_is_about_something_else(scene: Scene) -> None:
    """Who is asked again sees what has changed, also when the playbooks want another target now."""
    first = scene.sealed(scene.plan(order=wish("disable-flag", flag="new")))
    facts = {"incident": first.incident, "mitigation": first.mitigation, "step": 1, "approval": "APR-1"}
    entry = scene.ledger.journal.begin(
        f"{first.mitigation}/1/apply", **facts, direction=Direction.APPLY, plan_digest=digest(first)
    )
    drift = (Difference(path="version", before=1, after=2),)
    result = StepResult(action=entry.action, outcome=Outcome.NOT_DONE, drift=drift)
    scene.ledger.journal.settle(entry, result=result, actor="stanch")
    scene.tried((first, AttemptEnd.DRIFTED))
    second = scene.sealed(scene.plan(2))

    assert second.steps[0].action.target != first.steps[0].action.target
    path = "launchdarkly:flag/shop/production/new version"
    assert second.differences == (Difference(path=path, before=1, after=2),)


def test_a_wish_that_nobody_had(scene: Scene) -> None:
    """A playbook in the name of a person who has not asked for it is not planned."""
    request = PlanRequest(incident=scene.incident, number=1, order=wish("scale-out"))

    with pytest.raises(ForbiddenError, match="bo has not ordered a plan of INC-1"):
        ActivityEnvironment().run(scene.planning().plan, request)


def test_nothing_to_do_is_no_plan(scene: Scene) -> None:
    """A playbook whose every step is already as it should be has no plan."""
    scene.flags.turn("shop", "production", "new", on=False)
    flag = next(one for one in scene.playbooks if one.name == "disable-flag")
    scene.playbooks = (flag,)
    answer = scene.plan()

    assert answer.approval == ""
    assert "no flag of shop that is on" in answer.notes[0]


def test_preview_stores_nothing(scene: Scene) -> None:
    """A preview shows the plan that would be sealed; nothing is asked and nothing is stored."""
    request = PreviewRequest(playbook="disable-flag", incident=scene.incident)
    answer: PreviewAnswer = ActivityEnvironment().run(scene.planning().preview, request)

    assert answer.plan is not None
    assert answer.plan.title == "Disable flag new"
    assert scene.ledger.approvals.list() == []


@pytest.mark.parametrize(
    ("playbook", "params", "note"),
    [
        ("nonsense", {}, "no playbook is called 'nonsense'; there is restart-pods"),
        ("disable-flag", {"within": "soon"}, "within"),
        ("disable-flag", {"withn": "PT1H"}, "withn"),
        ("disable-flag", {"within": "P999999999D"}, "within: Input should be less than or equal to 30 days"),
        ("disable-flag", {"within": -1}, "within: Input should be greater than 0"),
        ("scale-out", {"most": 10_001}, "most: Input should be less than or equal to 10000"),
        ("roll-back-deployment", {"revision": 0}, "revision: Input should be greater than or equal to 1"),
        ("roll-back-ecs-service", {"revision": 10**30}, "revision: Input should be less than or equal to"),
    ],
)
def test_preview_says_what_is_wrong(scene: Scene, playbook: str, params: dict[str, Any], note: str) -> None:
    """A wrong name or parameter is named."""
    request = PreviewRequest(playbook=playbook, incident=scene.incident, params=params)
    answer: PreviewAnswer = ActivityEnvironment().run(scene.planning().preview, request)

    assert answer.plan is None
    assert note in answer.note


def test_risk_is_the_highest_of_all(scene: Scene) -> None:
    """A step's risk is the highest of what action, playbook and step declare."""
    flag = next(one for one in scene.playbooks if one.name == "disable-flag")
    scene.playbooks = (replace(flag, risk=Risk.HIGH),)

    assert scene.sealed(scene.plan()).risk is Risk.HIGH


def test_what_forcing_a_step_touches_is_shown_beforehand(scene: Scene) -> None:
    """Whoever forces it in flight has read in the plan what that touches, where it is something else."""
    where = {"cluster": "demo", "namespace": "shop", "name": "web"}

    async def plan(incident: Incident, params: PlaybookParams, look: ServiceLook) -> Proposal:  # noqa: ARG001
        call, harder = (ScaleDeployment(**where, replicas=number).call() for number in (5, 9))
        steps = [ProposedStep(title="s", action=call, forced=forced) for forced in (harder, call)]
        return Proposal(title="t", rationale="r", steps=tuple(steps))

    scene.use(plan)
    differs, alike = scene.sealed(scene.plan()).steps
    before, _, forced = differs.blast_radius.partition(" Forced: ")

    assert (before, bool(forced), before != forced) == (alike.blast_radius, True, True)


def test_an_undo_that_could_not_be_asked_for_is_none(scene: Scene) -> None:
    """The approver sees beforehand that what is there now is out of the bounds of its own request."""
    target = {"kind": "Deployment", "name": "web"}
    spec = {"minReplicas": 2, "maxReplicas": 20_000, "scaleTargetRef": target}
    metadata = {"name": "web", "namespace": "shop"}
    scene.cluster.create("horizontalpodautoscalers", {"metadata": metadata, "spec": spec})

    async def plan(incident: Incident, params: PlaybookParams, look: ServiceLook) -> Proposal:  # noqa: ARG001
        where = {"cluster": "demo", "namespace": "shop", "name": "web"}
        request = SetAutoscalerLimits(**where, autoscaler="web", minimum=4, maximum=8)
        return Proposal(title="t", rationale="r", steps=(ProposedStep(title="s", action=request.call()),))

    scene.use(plan)
    answer = scene.plan()
    (step,) = scene.sealed(answer).steps

    assert (step.undo, answer.steps[0].undoable) == (None, False)
    assert step.undo_note == (
        "What is there now cannot be asked for again: "
        "k8s.set_autoscaler_limits: maximum: Input should be less than or equal to 10000"
    )


def test_service_without_signals_is_not_changed_blindly(scene: Scene) -> None:
    """Without a signal nobody would know whether it helped, so nothing is proposed."""
    catalogue = scene.catalogue()
    service = catalogue.services[0]
    bare = service.environments["production"].model_copy(update={"signals": {}})
    scene.catalogue = lambda: catalogue.model_copy(  # type: ignore[method-assign]  # this test's own world
        update={"services": (service.model_copy(update={"environments": {"production": bare}}),)}
    )
    answer = scene.plan()

    assert answer.approval == ""
    assert "has no signals in the catalogue" in answer.notes[0]


def test_catalogue_of_playbooks() -> None:
    """Every shipped playbook is found, cheap and reversible ones first."""
    found: tuple[Playbook, ...] = playbooks.kit.catalogue()

    names = [one.name for one in found]
    assert (names[:2], names[-1]) == (["restart-pods", "disable-flag"], "fail-over")
    assert [one.order for one in found] == sorted(one.order for one in found)
