"""What goes on beside an incident on a real control plane: who changes back, what recovers, what is ready."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

import worker
from activities import lookout as looking
from activities.lookout import Lookout
from activities.planning import Planning
from activities.rehearsal import Rehearsal
from contracts.catalogue import Catalogue, Cluster, Signal
from contracts.evidence import EvidenceKind
from contracts.in_force import StepInForce
from contracts.outcomes import Outcome, Reached
from contracts.plans import Verification
from contracts.readiness import CheckState, ServiceReadiness
from playbooks import fail_over, kit
from runtime.clock import utc_now
from tests.activities.k8s.conftest import BAD_IMAGE, MERGE, REAL, until
from tests.control_plane.scene import POLICY, V1, V2, Scene, apply, image, self_healing, synced_release

pytestmark = pytest.mark.cluster

LOOKS = 0.6  # seconds in which whoever looks out has looked at everything several times


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it looked every tenth of a second, at what a worker looks at every half minute."""
    monkeypatch.setattr(looking, "TURN", 0.05)
    for name in ("IN_FORCE_FIRST", "SURE", "LEAST"):
        monkeypatch.setattr(looking, name, timedelta(seconds=0.1))


@contextmanager
def looking_out(lookout: Lookout) -> Iterator[None]:
    """Run it beside, as a worker does."""
    stop = threading.Event()

    async def look() -> None:
        async with lookout.running():
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def in_force(scene: Scene, mitigation: str) -> StepInForce:
    """Give the step that a mitigation has left in force."""
    return scene.ledger.in_force.get(mitigation).steps[0]


def test_who_changes_a_rollback_back_is_named_by_the_watch(scene: Scene) -> None:
    """A controller that heals after the step has settled is told of by its name, once, and so is its end."""
    place = scene.place
    plan = synced_release(scene)
    with looking_out(scene.lookout()):
        plan.run()
        place.settled()
        threading.Event().wait(LOOKS)
        quiet = in_force(scene, plan.plan.mitigation).changed_by
        with self_healing(place, V2) as healed:
            until(lambda: in_force(scene, plan.plan.mitigation).changed_by)
            threading.Event().wait(LOOKS)
            asked = scene.ledger.incidents.get(scene.incident).attention
        apply(place, V1)
        until(lambda: in_force(scene, plan.plan.mitigation).changed_by is None)

    assert quiet is None
    assert (healed(), image(place)) == (1, V1)
    assert asked == "INC-1/1 step 1 was changed back by argocd-controller: Do it"
    told = [one for one in scene.told(EvidenceKind.IN_FORCE) if "step 1" in one]
    assert told == [asked, "INC-1/1 step 1 is in place again: Do it"]
    assert scene.ledger.incidents.get(scene.incident).attention is None


def test_who_resumes_a_paused_sync_is_named_too(scene: Scene) -> None:
    """While the sync is paused nothing is changed back; after somebody resumed it, both are named."""
    place = scene.place
    place.synced("application", {"project": "shop", "syncPolicy": {"automated": {"selfHeal": True}}})
    request = place.sync("application", suspended=True)

    def is_automated() -> bool:
        return "automated" in place.call("GET", place.path_to(request))[1]["spec"]["syncPolicy"]

    back, pause = synced_release(scene), scene.approved(request)
    with self_healing(place, V2, automated=is_automated), looking_out(scene.lookout()):
        outcomes = [pause.run().outcome, back.run().outcome]
        place.settled()
        threading.Event().wait(LOOKS)
        quiet = [in_force(scene, one.plan.mitigation).changed_by for one in (pause, back)]
        resumed = {"spec": {"syncPolicy": {"automated": {"selfHeal": True}}}}
        place.call("PATCH", place.path_to(request), resumed, kind=MERGE, fieldManager="argocd-server")
        until(lambda: in_force(scene, back.plan.mitigation).changed_by)
        until(lambda: in_force(scene, pause.plan.mitigation).changed_by)
    by = [in_force(scene, one.plan.mitigation).changed_by for one in (pause, back)]

    assert (outcomes, quiet) == ([Outcome.DONE] * 2, [None, None])
    assert by == ["argocd-server", "argocd-controller"]


def signal(scene: Scene, look: str) -> Verification:
    """Give the rule of a signal of the catalogue that looks at `web`, quicker than people would have it."""
    rule = Signal.model_validate({look: scene.place.where}).verification(look, {})
    arguments = rule.probe.arguments | ({"within": 3} if look == "warnings" else {})
    hurried = {"probe": rule.probe.model_copy(update={"arguments": arguments}), "hold": timedelta(seconds=1)}
    return rule.model_copy(update={**hurried, "baseline": scene.registry().measure(rule.probe)})


@pytest.mark.parametrize("look", ["rollout", "warnings"])
def test_what_recovers_while_its_plan_waits_is_told(scene: Scene, look: str) -> None:
    """A bad release that somebody repairs by hand, while nobody has decided yet, is seen by both signals."""
    place = scene.place
    place.deploy()
    place.release(BAD_IMAGE)
    place.settled(Reached.FAILED)
    until(lambda: place.warnings().value)
    _, asked = scene.ask(place.roll_back(1), signal(scene, look))
    with looking_out(scene.lookout()):
        threading.Event().wait(LOOKS)
        early = scene.told(EvidenceKind.RECOVERED)
        place.release(V2)
        (said,) = until(lambda: scene.told(EvidenceKind.RECOVERED))

    assert early == []
    assert said.startswith(f"{look} has been healthy for 1 s while {asked.id} waits: ")


def test_a_failover_to_a_cluster_is_rehearsed(scene: Scene) -> None:
    """The dry run asks the real API server; a rollout that fails there makes the standby not ready."""
    place = scene.place
    place.deploy()
    (service,) = scene.catalogue.services
    environment = service.environments["production"].model_dump(mode="json")
    scale = {"title": "Grow", "action": "k8s.scale_deployment", "arguments": {**place.where, "replicas": 4}}
    ready = {"name": "k8s.rollout_status", "arguments": place.where}
    environment |= {
        "regions": ["eu", "us"],
        "failover": {"moves": [{"away_from": "eu", "to": "us", "steps": [scale], "ready": [ready]}]},
        "signals": {"rollout": {"rollout": place.where}},
    }
    book: dict[str, Any] = {"services": [{"name": "web", "environments": {"production": environment}}]}
    clusters = (Cluster(name="demo", kubeconfig=REAL),)
    scene.catalogue = Catalogue.model_validate(book | {"clusters": clusters})
    registry = worker.registry(scene.catalogue, secret=lambda _: "")
    planning = Planning(
        ledger=scene.ledger,
        catalogue=scene.catalogue,
        playbooks=(),
        registry=registry,
        policy=POLICY,
        clock=utc_now,
    )
    playbook = next(one for one in kit.catalogue() if one.name == fail_over.NAME)
    lookout = scene.lookout(Rehearsal(registry=registry, planning=planning, playbook=playbook, clock=utc_now))

    def found() -> ServiceReadiness:
        scene.ledger.watches.hasten("readiness/web/production")
        for claimed in lookout.claim():
            lookout.look(claimed)
        return scene.ledger.readiness.get("web", "production")

    good = found()
    place.release(BAD_IMAGE)
    place.settled(Reached.FAILED)
    bad = found()

    assert good.state is CheckState.OK, good.checks
    assert bad.state is CheckState.NOT_READY
    assert any("cannot pull its image" in one.detail for one in bad.checks), bad.checks
    assert place.raw()["spec"]["replicas"] == 3
