"""Heartbeats from a synchronous activity while it waits for somebody else."""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import activity

INTERVAL = 1.0


@contextmanager
def beating() -> Iterator[None]:
    """Beat every second until the block ends: so a killed worker is noticed within the heartbeat timeout."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(INTERVAL):
            activity.heartbeat()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(beat,), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
