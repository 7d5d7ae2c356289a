"""The worker of the bare workflows, a process of its own as ours is: ``python -m benchmarks.bare_worker``."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from temporalio.worker import Worker

from benchmarks import bare
from runtime import temporal
from runtime.settings import Settings


async def main(address: str) -> None:
    """Work until killed."""
    client = await temporal.connect(Settings(temporal_address=address))
    worker = Worker(
        client,
        task_queue=bare.QUEUE,
        workflows=[bare.BareSteps, bare.BareDecision],
        activities=[bare.touch],
        activity_executor=ThreadPoolExecutor(100),
        build_id="bare",
    )
    print("ready", flush=True)
    await worker.run()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    finally:
        # The SDK's runtime can abort while the interpreter shuts down (sdk-python issue 300).
        os._exit(0)
