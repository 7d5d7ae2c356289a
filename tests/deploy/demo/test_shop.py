"""The shop breaks for the reasons that it gives, and for no other."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ldclient import LDClient
from ldclient.config import Config
from ldclient.integrations.test_data import TestData

from deploy.demo.shop import FLAG, Cluster, Pod, Pool, PoolTimeoutError, Shop

V1, V2, V3 = (
    tuple(Pod(f"web-{image}-{n}", f"shop:{image}") for n in range(2)) for image in ("v1", "v2", "v3")
)
SetFlag = Callable[[str], object]


@pytest.fixture
def flags() -> Iterator[tuple[LDClient, SetFlag]]:
    """The real SDK on LaunchDarkly's own test source, with the flag off, and what switches it."""
    source = TestData.data_source()

    def switch(position: str) -> object:
        return source.update(source.flag(FLAG).on(position == "on"))

    switch("off")
    client = LDClient(
        Config("sdk-key", update_processor_class=source, send_events=False, diagnostic_opt_out=True)
    )
    yield client, switch
    client.close()  # type: ignore[no-untyped-call]


def shop(flags: LDClient, pods: tuple[Pod, ...], *, size: int = 4) -> Shop:
    """A shop that saw these pods, with few connections and little patience."""
    cluster = Cluster("http://127.0.0.1:1", "token")
    cluster.pods = pods
    return Shop(
        cluster, flags, Pool(size, wait=0.05), query=0.0004
    )  # a page with recommendations takes 0.2 s


def visit(shop: Shop, visitors: int) -> list[int]:
    """Let visitors come at once; give what each was answered."""
    with ThreadPoolExecutor(visitors) as threads:
        return sorted(threads.map(lambda _: shop.visit()[0], range(visitors)))


@pytest.mark.parametrize(
    ("pods", "position", "queries"),
    [(V1, "off", 2), (V1, "on", 2), (V2, "off", 2), (V2, "on", 502), (V3, "off", 502), (V3, "on", 502)],
)
def test_recommendations_make_500_queries_more(
    flags: tuple[LDClient, SetFlag], pods: tuple[Pod, ...], position: str, queries: int
) -> None:
    """The first image has none, the second has them behind the flag, and the third forgot the flag."""
    client, switch = flags
    switch(position)
    subject = shop(client, pods)

    status, page = subject.visit()

    assert (status, subject.queries) == (200, queries)
    assert ("Others also bought" in page) is (queries > 2)


def test_recommendations_exhaust_the_pool(flags: tuple[LDClient, SetFlag]) -> None:
    """Under the same traffic nobody waits without them, and most visitors get a 500 with them."""
    client, switch = flags
    subject = shop(client, V2)

    without = visit(subject, 12)
    switch("on")
    with_them = visit(subject, 12)

    assert without == [200] * 12
    assert with_them == [200] * 4 + [500] * 8
    assert subject.pool.in_use == 0
    assert 'shop_requests_total{code="500"} 8\n' in subject.metrics()
    assert 'flag="on"} 1\n' in subject.metrics()


def test_switching_the_flag_off_frees_the_pool_at_once(flags: tuple[LDClient, SetFlag]) -> None:
    """A page that is in the middle of its queries stops making them."""
    client, switch = flags
    switch("on")
    subject = shop(client, V2)
    subject.query = 0.002  # a whole page would take a second

    with ThreadPoolExecutor(4) as threads:
        pages = [threads.submit(subject.visit) for _ in range(4)]
        while subject.queries < 4 * 52:  # all four are in the midst of their recommendations
            time.sleep(0.005)
        switch("off")
        began = time.monotonic()
        statuses = [page.result()[0] for page in pages]

    assert statuses == [200] * 4
    assert time.monotonic() - began < 0.5


def test_stopped_pods_give_their_connections_back() -> None:
    """A connection lives as long as its pod; the old holder's own return changes nothing any more."""
    pool = Pool(2, wait=0.05)

    with pool.connection("old-1") as old, pool.connection("new-1") as new:
        pool.keep_only({"new-1"})

        assert (pool.in_use, pool.holds(old), pool.holds(new)) == (1, False, True)
        with pool.connection("new-2"):
            assert pool.in_use == 2
    assert pool.in_use == 0


def test_a_waiting_request_takes_what_becomes_free() -> None:
    """Waiting ends with the first connection that is given back, and with an error when none is."""
    pool = Pool(1, wait=30.0)
    taken = threading.Event()

    def take() -> None:
        with pool.connection("b"):
            taken.set()

    waiting = threading.Thread(target=take)
    with pool.connection("a"):
        waiting.start()
        assert not taken.wait(0.1)
    assert taken.wait(5)
    waiting.join()

    hasty = Pool(0, wait=0.01)
    with pytest.raises(PoolTimeoutError, match="no database connection became free"), hasty.connection("a"):
        pass


def test_without_a_ready_pod_nobody_answers(flags: tuple[LDClient, SetFlag]) -> None:
    """No pods is 503, counted as an error."""
    subject = shop(flags[0], ())

    assert subject.visit()[0] == 503
    assert 'shop_requests_total{code="503"} 1\n' in subject.metrics()


def test_a_silent_cluster_changes_nothing(
    flags: tuple[LDClient, SetFlag], capfd: pytest.CaptureFixture[str]
) -> None:
    """When the Kubernetes API is away the pods that were there go on."""
    subject = shop(flags[0], V1)

    subject.look()

    assert subject.cluster.pods == V1
    assert subject.visit()[0] == 200
    assert "the pods cannot be read" in capfd.readouterr().err
