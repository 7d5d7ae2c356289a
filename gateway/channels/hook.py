"""A signed POST of JSON: for chat hooks, bridges to a pager, and programs of one's own."""

import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import urllib3
from urllib3.util import Url, parse_url

from contracts.errors import ActionRefusedError, ProviderUnavailableError
from gateway.channels import Letter
from runtime import settings as configuration

_TIMEOUT = urllib3.Timeout(connect=3, read=5)
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
# Metadata services of clouds that are not at a link-local address.
_METADATA = {"fd00:ec2::254", "100.100.100.200", "192.0.0.192"}
_PORTS = {"http": 80, "https": 443}
_FROM_ENVIRONMENT = "env:"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Hook:
    """The channel ``webhook``.

    Each POST has ``Idempotency-Key``, the message's id, and ``Stanch-Signature: t=<Unix time>,v1=<hex>``: the
    HMAC-SHA256 by ``STANCH_WEBHOOK_SECRET`` of the time, a full stop and the body.
    """

    def __init__(self, secret: str, *, clock: Callable[[], datetime]) -> None:
        self._secret = secret.encode()
        self._clock = clock

    def send(self, letter: Letter) -> None:
        """POST one notice; 2xx is taken as received, a redirect is not followed."""
        address = letter.address
        if address.startswith(_FROM_ENVIRONMENT):  # the address of a chat hook is itself a secret
            address = configuration.secret(address.removeprefix(_FROM_ENVIRONMENT))
        url = _parse(address)
        body = json.dumps(_content(letter)).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": letter.notice.id}
        if self._secret:
            headers["Stanch-Signature"] = sign(self._secret, int(self._clock().timestamp()), body)
        where = f"webhook of {letter.notice.person} at {url.netloc}"  # the path may be a secret
        pool = _pool(url, where)
        try:
            answer = pool.request(
                "POST",
                url.request_uri,
                body=body,
                headers=headers | {"Host": str(url.netloc)},
                redirect=False,
                preload_content=False,
            )
            status = answer.status
            answer.close()  # whatever it says besides is not waited for
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cause = error.args[0] if error.args else None
            if isinstance(cause, ssl.SSLCertVerificationError):
                said = cause.verify_message.rstrip(".")
                raise ActionRefusedError(f"{where}: its certificate does not hold: {said}") from error
            raise ProviderUnavailableError(
                f"{where}: no answer ({type(error).__name__})", may_have_applied=True
            ) from error
        finally:
            pool.close()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AGAIN:
            raise ProviderUnavailableError(f"{where}: {status}", may_have_applied=True)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise ActionRefusedError(f"{where}: {status}")


def sign(secret: bytes, at: int, body: bytes) -> str:
    """Give the value of ``Stanch-Signature``."""
    mark = hmac.digest(secret, f"{at}.".encode() + body, hashlib.sha256).hex()
    return f"t={at},v1={mark}"


def _content(letter: Letter) -> dict[str, str]:
    notice = letter.notice
    return {
        "text": f"{notice.title}\n{notice.text}\n{letter.link}",  # what chat hooks show
        "id": notice.id,
        "subject": notice.subject,
        "incident": notice.incident,
        "person": notice.person,
        "title": notice.title,
        "link": letter.link,
    }


def _parse(address: str) -> Url:
    try:
        url = parse_url(address)
    except urllib3.exceptions.LocationParseError:
        url = Url()
    if url.scheme not in _PORTS or not url.host or url.auth:
        raise ActionRefusedError("a webhook is refused: its address is not https://<host>/<path>")
    return url


def _pool(url: Url, where: str) -> urllib3.HTTPConnectionPool:
    """Give a connection to the very address that was checked: a name may mean another one a moment later."""
    host = str(url.host).strip("[]")
    port = url.port or _PORTS[str(url.scheme)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ProviderUnavailableError(f"{where}: {error.strerror}") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if _is_forbidden(address):
            raise ActionRefusedError(f"{where} is refused: {address} is no place for messages")
    chosen = str(addresses[0])
    if url.scheme == "https":
        return urllib3.HTTPSConnectionPool(
            chosen, port, timeout=_TIMEOUT, retries=False, server_hostname=host
        )
    if not all(address.is_loopback for address in addresses):
        raise ActionRefusedError(f"{where} is refused: http is for this machine only, use https")
    return urllib3.HTTPConnectionPool(chosen, port, timeout=_TIMEOUT, retries=False)


def _is_forbidden(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    odd = address.is_link_local or address.is_multicast or address.is_unspecified
    return odd or str(address) in _METADATA
