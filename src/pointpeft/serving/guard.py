"""What every request must pass before anything of it is read."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from pointpeft.serving.counters import Counters
from pointpeft.serving.limits import LOOPBACK, Limits
from pointpeft.serving.problems import RefusedError

__all__ = ["Guard"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_OPEN = ("/healthz", "/", "/docs", "/openapi.json")
"""Paths that say nothing of data or adapters, and need no token."""


class Guard:
    """An ASGI layer: token, origin, size of the body, number of requests, and time.

    Without a token requests must name this machine itself as their host, so that a page on the web
    cannot reach the service through the browser of its user.

    Args:
        application: what requests go to.
        limits: of a request.
        counters: that count requests.
        token: that a request must bear; None: none is needed.
    """

    def __init__(
        self, application: Application, limits: Limits, counters: Counters, token: str | None
    ) -> None:
        self._application, self._limits = application, limits
        self._counters, self._token = counters, token
        self._working = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        begin, status = time.perf_counter(), 500
        body = _Body(receive, self._limits.max_bytes)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered.append(True)
            await send(message)

        answered: list[bool] = []
        taken = 0  # a request that may not come in takes nobody's place
        try:
            async with asyncio.timeout(self._limits.seconds):
                self._check(scope)
                taken = 1
                self._working += taken
                await self._application(scope, body.receive, noting)
        except RefusedError as error:
            if error.status not in (401, 403):
                await body.drain(self._limits)
            await error.response()(scope, receive, noting)
        except TimeoutError:
            if not answered:
                late = RefusedError(
                    503, f"not done within {self._limits.seconds} s: send less, or later",
                    {"Retry-After": "10"},
                )  # fmt: skip
                await late.response()(scope, receive, noting)
        finally:
            self._working -= taken
            self._counters.count(scope, status, time.perf_counter() - begin)

    def _check(self, scope: Message) -> None:
        """Refuse a request by its head.

        Raises:
            RefusedError: token, origin or size are wrong, or there are too many requests.
        """
        headers = Headers(scope=scope)
        self._check_origin(headers)
        if self._token is not None and scope["path"] not in _OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode(), self._token.encode()
            ):
                raise RefusedError(
                    401, "a token is needed: send it as `Authorization: Bearer TOKEN`",
                    {"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes)
        if self._working >= self._limits.max_waiting and scope["path"] != "/healthz":
            raise RefusedError(503, "too many requests at a time: try again", {"Retry-After": "1"})

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._token is None and _parsed(f"//{host}").hostname not in LOOPBACK:
            raise RefusedError(
                403, f"without a token the service is for this machine: ask {LOOPBACK[0]}"
            )
        origin = headers.get("origin")
        if origin is not None and _parsed(origin).netloc != host:
            raise RefusedError(
                403, f"the page that asks is of {origin[:100]}, the service of {host}"
            )


def _parsed(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise RefusedError(400, f"no address: {address[:100]}") from error


class _Body:
    """The body of a request, which is refused when it grows too large."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._size, self._ended = receive, most, 0, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        if self._size > self._most:
            raise _too_large(self._most)
        return message

    async def drain(self, limits: Limits) -> None:
        """Read on for a while and forget it: a client that still sends would miss the answer."""
        try:
            async with asyncio.timeout(min(limits.seconds, 10)):
                while not self._ended and self._size < 8 * self._most:
                    try:
                        await self.receive()
                    except RefusedError:
                        continue
        except TimeoutError:
            return


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"the body is larger than the {most:,} bytes that the service takes")
