"""Which revision is restored: the last good one of another release."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from activities.k8s import History, Owner, Revision, RollBackDeployment, RolloutHistory
from activities.k8s.models import template_hash
from contracts.actions import ActionRequest, ProbeRequest
from contracts.catalogue import Deployment, ServiceEnvironment, Signal, Sync
from contracts.errors import NothingToProposeError
from contracts.incidents import Attempt, AttemptEnd, Effect, Incident, Severity
from contracts.plans import Observation, Proposal
from playbooks.roll_back_deployment import VERIFIED_GOOD, Params, plan

NOW = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
INCIDENT = Incident(
    id="INC-1", title="t", service="shop", environment="production", severity=Severity.SEV2, opened_at=NOW
)


def revision(
    number: int,
    image: str,
    minutes_ago: float,
    *,
    current: bool = False,
    restarted: bool = False,
    good: str = "",
    serving: int = 0,
    **marks: str,
) -> Revision:
    """Give one revision of the history."""
    template: dict[str, Any] = {"metadata": {}, "spec": {"containers": [{"name": "web", "image": image}]}}
    if marks:
        template["metadata"]["annotations"] = {
            f"stanch.dev/{key.replace('_', '-')}": value for key, value in marks.items()
        }
    if restarted:
        template["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "2026-11-21T14:50:00Z"}
    mark = {"hash": template_hash(template), "name": f"5d8c{number}", "other": "0" * 12}.get(good, good)
    return Revision(
        number=number,
        kept_in=f"web-5d8c{number}",
        template_hash=template_hash(template),
        release=image,
        images=(image,),
        created_at=NOW - timedelta(minutes=minutes_ago),
        current=current,
        pods=3 if current else serving,
        serving=serving,
        template=template,
        annotations={VERIFIED_GOOD: mark} if mark else {},
    )


class Look:
    """A look at a service with one deployment of this history."""

    now = NOW

    def __init__(
        self,
        *revisions: Revision,
        owners: tuple[Owner, ...] = (),
        syncs: tuple[Sync, ...] = (),
        names: tuple[str, ...] = ("web",),
    ) -> None:
        self.service = ServiceEnvironment(
            deployments=tuple(Deployment(cluster="demo", namespace="shop", name=name) for name in names),
            syncs=syncs,
            signals={"error_rate": Signal(prometheus="main", query="q", healthy_below=0.05)},
        )
        newest_first = sorted(revisions, key=lambda one: -one.number)
        self._history = History(
            cluster="demo", namespace="shop", name="web", revisions=tuple(newest_first), owners=owners
        )

    async def at(self, request: ProbeRequest[Any]) -> Any:
        """Give the history."""
        assert isinstance(request, RolloutHistory)
        return self._history.model_copy(update={"name": request.name})

    async def observe(self, request: ActionRequest) -> Observation:
        """Nobody asks."""
        raise AssertionError(request)


async def proposed(
    *revisions: Revision, incident: Incident = INCIDENT, params: Params | None = None
) -> tuple[RollBackDeployment, str]:
    """Give what is proposed, and why."""
    proposal: Proposal = await plan(incident, params or Params(), cast("Any", Look(*revisions)))
    return RollBackDeployment.model_validate(proposal.steps[0].action.arguments), proposal.rationale


async def restored(*revisions: Revision, incident: Incident = INCIDENT, params: Params | None = None) -> int:
    """Give the number of the revision that is proposed."""
    return (await proposed(*revisions, incident=incident, params=params))[0].revision


def tried(request: RollBackDeployment, end: AttemptEnd = AttemptEnd.INEFFECTIVE) -> Incident:
    """Give the incident after this was tried."""
    attempt = Attempt(
        mitigation="INC-1/1",
        playbook="roll-back-deployment",
        title="t",
        plan_digest="0" * 64,
        end=end,
        actions=(request.attempt,),
    )
    return INCIDENT.model_copy(update={"attempts": (attempt,)})


async def test_the_one_before() -> None:
    """Without marks it is the release before the present one."""
    assert (
        await restored(revision(1, "v1", 900), revision(2, "v2", 300), revision(3, "v3", 60, current=True))
        == 2
    )


async def test_the_last_verified_one() -> None:
    """A marked release comes before a newer one without a mark; a mark of another template is none."""
    marked = revision(1, "v1", 900, good="hash")
    copied = revision(2, "v2", 300, good="other")

    assert await restored(marked, copied, revision(3, "v3", 60, current=True)) == 1


async def test_a_release_that_never_got_through_is_not_the_good_one() -> None:
    """Over a rollout that was stuck all night came another one: what has served all the time is restored."""
    serves, stuck = revision(1, "v1", 3000, serving=3), revision(2, "v2", 600)
    request, why = await proposed(serves, stuck, revision(3, "v3", 10, current=True))
    gone = await restored(revision(1, "v1", 3000), stuck, revision(3, "v3", 10, current=True))

    assert request.revision == 1
    assert "revision 1 (v1) ran for 40 h before another one came, and still serves." in why
    assert gone == 2
    assert (
        await restored(serves, revision(2, "v2", 600, good="hash"), revision(3, "v3", 10, current=True)) == 2
    )
    assert await restored(revision(1, "v1", 40, serving=3), stuck, revision(3, "v3", 10, current=True)) == 2


async def test_a_restart_is_no_release() -> None:
    """After a restart the revision before it is the same release and is passed over."""
    before_restart = revision(2, "v2", 60)
    restarted = revision(3, "v2", 1, current=True, restarted=True)

    assert await restored(revision(1, "v1", 900), before_restart, restarted) == 1


async def test_an_old_release_is_no_suspect() -> None:
    """A release from long ago is not rolled back, also when its pods were restarted just now."""
    history = [
        revision(1, "v1", 9000),
        revision(2, "v2", 8000),
        revision(3, "v2", 1, current=True, restarted=True),
    ]

    with pytest.raises(NothingToProposeError, match="was released within"):
        await restored(*history)


async def test_nothing_before() -> None:
    """The first release has nothing to go back to."""
    with pytest.raises(NothingToProposeError):
        await restored(revision(1, "v1", 60, current=True))


async def test_what_was_tried_is_not_proposed_again() -> None:
    """A rollback that did not help is not proposed again, also when it has got another number meanwhile."""
    history = (revision(1, "v1", 900), revision(2, "v2", 60, current=True))
    incident = tried((await proposed(*history))[0])

    with pytest.raises(NothingToProposeError, match="left to try"):
        await restored(*history, incident=incident)
    with pytest.raises(NothingToProposeError):
        await restored(revision(3, "v1", 900), revision(4, "v2", 60, current=True), incident=incident)


@pytest.mark.parametrize("end", [AttemptEnd.INEFFECTIVE, AttemptEnd.REJECTED])
async def test_after_two_bad_releases_the_good_one_is_reached(end: AttemptEnd) -> None:
    """What did not help or was turned down is followed by the release before it."""
    good, bad, worse = (revision(1, "v1", 9000), revision(2, "v2", 900), revision(3, "v3", 60, current=True))
    first, _ = await proposed(good, bad, worse)

    assert first.revision == 2
    assert await restored(good, bad, worse, incident=tried(first, end)) == 1


async def test_a_restart_of_what_was_tried_is_no_other_release() -> None:
    """Of each release the newest revision is proposed, once."""
    history = (
        revision(1, "v2", 900),
        revision(2, "v2", 500, restarted=True),
        revision(3, "v3", 60, current=True),
    )
    first, _ = await proposed(*history)

    assert first.revision == 2
    with pytest.raises(NothingToProposeError):
        await restored(*history, incident=tried(first))


async def test_what_came_after_the_present_release_is_not_gone_back_to() -> None:
    """While a restored release runs, the bad one that came after it is no candidate."""
    with pytest.raises(NothingToProposeError):
        await restored(revision(2, "v2", 30), revision(3, "v1", 900, current=True))
    assert (
        await restored(revision(1, "v1", 900), revision(3, "v3", 30), revision(4, "v2", 90, current=True))
        == 1
    )


async def test_one_that_ran_for_long_comes_before_a_newer_brief_one() -> None:
    """Without marks the newest release that ran for an hour is proposed, and the plan says for how long."""
    history = (revision(1, "v1", 8700), revision(2, "v2", 60), revision(3, "v3", 55, current=True))
    request, why = await proposed(*history)

    assert request.revision == 1
    assert why.endswith("revision 1 (v1) ran for 144 h before another one came.")
    brief = Params(proven=timedelta(minutes=5))
    assert await restored(*history, params=brief) == 2
    assert (await proposed(*history[1:]))[1].endswith("ran before, but is not known to be good.")


async def test_one_that_was_rolled_back_has_not_run_until_the_next_release() -> None:
    """Where somebody went back by hand, the time until the next release is not the bad one's."""
    bad, good, present = revision(2, "v2", 900), revision(3, "v1", 2000), revision(4, "v3", 60, current=True)

    assert await restored(bad, good, present) == 3


@pytest.mark.parametrize("good", ["hash", "name"])
async def test_a_mark_comes_first(good: str) -> None:
    """Our own hash and the controller's, as the ReplicaSet's name ends, mark a release; "yes" does not."""
    newer, present = revision(2, "v2", 900), revision(3, "v3", 60, current=True)
    request, why = await proposed(revision(1, "v1", 1000, good=good), newer, present)

    assert request.revision == 1
    assert why.endswith("is marked as verified good.")
    assert await restored(revision(1, "v1", 1000, good="yes"), newer, present) == 2


async def test_a_person_names_the_revision() -> None:
    """A named revision is restored whatever its release's age and rank; one that is not there is said."""
    history = (revision(1, "v1", 9000), revision(2, "v2", 8000), revision(3, "v3", 7000, current=True))

    assert await restored(*history, params=Params(revision=1)) == 1
    with pytest.raises(NothingToProposeError, match="revision 7"):
        await restored(*history, params=Params(revision=7))
    with pytest.raises(NothingToProposeError, match="revision 3"):
        await restored(*history, params=Params(revision=3))


async def test_a_revision_of_two_deployments() -> None:
    """Each deployment counts its own revisions: one that two have is asked about, and a name says which."""
    two = cast("Any", Look(*RELEASED, names=("web", "new-web")))
    with pytest.raises(NothingToProposeError) as refused:
        await plan(INCIDENT, Params(revision=1), two)

    assert str(refused.value) == (
        "demo/shop/web and demo/shop/new-web each have a revision 1: say which one with `name`"
    )
    for name in ("web", "shop/web", "demo/shop/web", "new-web"):
        proposal = await plan(INCIDENT, Params(revision=1, name=name), two)
        assert proposal.steps[0].action.arguments["name"] == name.rpartition("/")[2]
    with pytest.raises(NothingToProposeError, match="none is called eb; there is demo/shop/web, demo/shop/n"):
        await plan(INCIDENT, Params(name="eb"), two)


RELEASED = (revision(1, "v1", 900), revision(2, "v2", 60, current=True))
ARGO = Owner(tool="Argo CD", kind="application", name="shop")
FLUX = Owner(tool="Flux", kind="kustomization", namespace="flux-system", name="apps")
APPLICATION = Sync(cluster="hub", namespace="argocd", name="shop", kind="application")
KUSTOMIZATION = Sync(cluster="demo", namespace="flux-system", name="apps", kind="kustomization")


@pytest.mark.parametrize(("owner", "sync"), [(ARGO, APPLICATION), (FLUX, KUSTOMIZATION)])
async def test_a_sync_is_paused_before_and_taken_back_with_it(owner: Owner, sync: Sync) -> None:
    """The plan has the pause as its first step, on the object that the catalogue names, and undoes both."""
    look = Look(*RELEASED, owners=(owner,), syncs=(KUSTOMIZATION, APPLICATION))
    proposal: Proposal = await plan(INCIDENT, Params(), cast("Any", look))
    first, second = proposal.steps

    assert (first.action.name, first.action.target) == ("k8s.set_sync", sync.target())
    assert first.action.arguments["suspended"] is True
    assert second.action.name == "k8s.roll_back_deployment"
    assert set(proposal.undo_when) == {Effect.INEFFECTIVE, Effect.WORSE}


@pytest.mark.parametrize(
    "syncs", [(), (KUSTOMIZATION,), (APPLICATION, APPLICATION.model_copy(update={"namespace": "b"}))]
)
async def test_a_sync_that_cannot_be_paused_is_a_reason_to_refuse(syncs: tuple[Sync, ...]) -> None:
    """A rollback that would be put back is not proposed; the reason says what the catalogue lacks."""
    with pytest.raises(NothingToProposeError) as caught:
        await plan(INCIDENT, Params(), cast("Any", Look(*RELEASED, owners=(ARGO,), syncs=syncs)))

    assert str(caught.value) == (
        "shop/web in cluster demo: Argo CD (application shop) would put back what is changed by hand. "
        "Name that application in the catalogue under `syncs`, so that it can be paused first"
    )


async def test_helm_is_no_reason_to_refuse() -> None:
    """What Helm made is rolled back all the same: it comes back with the next upgrade only."""
    helm = Owner(tool="Helm", kind="release", name="shop")
    proposal: Proposal = await plan(INCIDENT, Params(), cast("Any", Look(*RELEASED, owners=(helm,))))

    assert [one.action.name for one in proposal.steps] == ["k8s.roll_back_deployment"]


async def test_a_release_that_the_data_has_left_behind_is_passed_over() -> None:
    """The newest release that works with the data is restored, if there is one."""
    old = revision(1, "v1", 900, schema="7")
    unmarked = revision(2, "v2", 300)
    changed = revision(3, "v3", 60, current=True, schema="7", schema_back_to="7")

    assert await restored(old, unmarked, changed) == 1
    assert await restored(unmarked, changed) == 2
