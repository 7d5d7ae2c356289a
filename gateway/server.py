"""How the application is served: one uvicorn server that stops although event streams are open."""

import socket

import uvicorn
from fastapi import FastAPI

from gateway.live import Live

_HEAD = 16 * 1024  # bytes of request line and headers; browsers send 2 KiB
_CONNECTIONS = 512  # at once; each waiting one costs a socket and little else
GRACE = 5  # seconds that running requests have when we stop


class Server(uvicorn.Server):
    """Ends the event streams before it waits for connections: browsers hold those open for ever."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        live: Live = self.config.app.state.live  # type: ignore[union-attr]  # ours is always an application
        live.close()
        await super().shutdown(sockets)


def server(app: FastAPI, *, host: str, port: int) -> Server:
    """Give the server; ``await server.serve()`` runs it until it is told to stop. Port 0 takes a free one."""
    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            access_log=False,  # /metrics counts requests, the evidence log keeps what matters
            log_config=None,  # the process decides how it logs
            server_header=False,
            date_header=True,
            proxy_headers=False,  # nobody in between is trusted to say who the client is
            h11_max_incomplete_event_size=_HEAD,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE,
        )
    )
