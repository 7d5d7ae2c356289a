"""A small identity provider in this process that lies in whatever way a test wants."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = "stanch", "s3cret"


class Issuer:
    """What it says, and of whom; every attribute may be turned into a lie.

    Attributes:
        claims: Of the next ID token; what is ``None`` is left out.
        userinfo: What its userinfo says.
        header: Of the next ID token.
        signs_with: The key of the next ID token; its own when ``None``.
        published: A secret that is among its public keys.
        discovery: What its discovery says otherwise.
        strict: Whether a code is taken once, and with its verifier only.
        down: Answers nothing but this status.
        refuses: The status of an authorization request.
        asks_back: The error that it sends a browser back with at once.
    """

    def __init__(self) -> None:
        self.url = ""
        self._first = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}, private=True)
        self.tell_the_truth()

    def tell_the_truth(self) -> None:
        """Forget every lie."""
        self.key = self._first
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.signs_with: Any = None
        self.published: list[dict[str, Any]] = []
        self.discovery: dict[str, Any] = {}
        self.strict = True
        self.down = 0
        self.refuses = 200
        self.asks_back = ""
        self.asked: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}

    def authorize(self, url: str) -> dict[str, str]:
        """Do what a person's browser does there: give the answer to an authorization request."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.url}

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        """Answer one request."""
        self.asked.append(path)
        if self.down and path != "/elsewhere":
            return self.down, {}
        if path in {"/.well-known/openid-configuration", "/elsewhere"}:
            return 200, self._document() | self.discovery
        if path == "/authorize":
            return 302 if self.asks_back else self.refuses, {}
        if path == "/jwks":
            return 200, {"keys": [self.key.as_dict(private=False), *self.published]}
        if path == "/userinfo":
            return 200, self.userinfo
        return self._token(form)

    def _document(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }

    def publish_a_secret(self) -> None:
        """Sign with a secret that stands among the public keys."""
        self.signs_with = OctKey.generate_key(256, {"kid": "shared"})
        self.published = [self.signs_with.as_dict(private=True)]
        self.header = {"alg": "HS256", "kid": "shared"}

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        asked = self._codes.get(form.get("code", ""))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = asked and asked["code_challenge"] == _encoded(digest)
        if not asked or (self.strict and not proven):
            return 400, {"error": "invalid_grant"}
        if self.strict:
            del self._codes[form["code"]]
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "sub": "42", "iat": now, "exp": now + 300}
        claims |= {"auth_time": now, "nonce": asked["nonce"]}
        claims |= {"email": "ada@example.com", "email_verified": True, "groups": ["sre", "ic"]}
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": self._sign(claims)}

    def _sign(self, claims: dict[str, Any]) -> str:
        if self.header["alg"] == "none":
            return ".".join(_encoded(json.dumps(part).encode()) for part in (self.header, claims)) + "."
        if (
            self.header["alg"] == "HS256" and not self.signs_with
        ):  # the oldest trick: the public key as if it were a secret
            content = ".".join(_encoded(json.dumps(part).encode()) for part in (self.header, claims))
            mark = hmac.digest(self.key.as_pem(private=False), content.encode(), "sha256")
            return f"{content}.{_encoded(mark)}"
        return jwt.encode(self.header, claims, self.signs_with or self.key, algorithms=["RS256", "HS256"])


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Serve one until the end of the block."""
    made = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            asked = urlsplit(self.path)
            status, content = made.answer(asked.path, form)
            raw = json.dumps(content).encode()
            self.send_response(status)
            if status == 302:
                back = parse_qs(asked.query).get("redirect_uri", [f"{made.url}/elsewhere"])[0]
                self.send_header("location", f"{back}?error={made.asks_back}" if made.asks_back else back)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = answer  # noqa: N815  (the names that http.server calls)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
