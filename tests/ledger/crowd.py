"""Many callers at the same moment: threads of one process, and processes."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from contracts.errors import StanchError
from ledger import Ledger
from tests.ledger.samples import Clock

Result = TypeVar("Result")
PATIENCE = 120.0  # seconds; a campaign that leaves the processor to others may wait long for its turn


def at_once(calls: Sequence[Callable[[], Result]]) -> list[Result | StanchError]:
    """Make all calls at the same moment; give what each returned or, if it is one of ours, raised."""
    start = threading.Barrier(len(calls))

    def call(one: Callable[[], Result]) -> Result | StanchError:
        start.wait(timeout=PATIENCE)
        try:
            return one()
        except StanchError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls, timeout=PATIENCE))


def in_processes(count: int, url: str, work: Callable[[Ledger, int], object]) -> None:
    """Let so many processes do the same work on one ledger at once; each must succeed."""
    context = get_context("forkserver")  # imports once; a fork of this process would copy its threads' locks
    context.set_forkserver_preload([__name__])
    start = context.Barrier(count)
    crowd = [context.Process(target=_work, args=(start, url, work, place)) for place in range(count)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()

    assert [process.exitcode for process in crowd] == [0] * count


def _work(start: threading.Barrier, url: str, work: Callable[[Ledger, int], object], place: int) -> None:
    ledger = Ledger.open(url, clock=Clock())
    start.wait(timeout=PATIENCE)
    work(ledger, place)
    ledger.close()
