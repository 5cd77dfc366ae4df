"""Refusals as problem documents (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["RefusedError"]


class RefusedError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP, 400 to 599.
        detail: what is wrong, and what would be right.
        headers: of the answer.
        more: further members of the document.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, headers, more

    def response(self) -> JSONResponse:
        """The answer, ``application/problem+json``."""
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return JSONResponse(
            document, self.status, self.headers, media_type="application/problem+json"
        )
