"""The addresses of the service."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from jinja2 import Template
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pointpeft import __version__
from pointpeft.errors import ConfigError, PointPeftError
from pointpeft.serving.counters import Counters
from pointpeft.serving.guard import Guard
from pointpeft.serving.problems import RefusedError
from pointpeft.serving.requests import BODY, read_uploads
from pointpeft.serving.served_adapters import UnknownAdapterError
from pointpeft.serving.service import Service
from pointpeft.serving.uploads import Upload

__all__ = ["create_app"]

_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
_PROBLEM = {"content": {"application/problem+json": {}}, "description": "a problem (RFC 9457)"}
_PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "503": _PROBLEM}

Answer = Callable[[Upload], Awaitable[dict[str, Any]]]


class _EmbedQuery(BaseModel, extra="forbid"):
    adapter: str | None = None


class _PredictQuery(_EmbedQuery):
    category: str | None = None
    points: bool = False


def create_app(service: Service, token: str | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        service: what answers; it is closed when the application ends.
        token: that requests must bear; None: none is needed, and only this machine may ask.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    counters = Counters()
    app = FastAPI(
        title="pointpeft", version=__version__, lifespan=lifespan, responses=_PROBLEMS,
        docs_url=None, redoc_url=None,  # their pages load scripts from another host
        dependencies=[Depends(_refuse_repeated_keys)],
    )  # fmt: skip
    app.add_middleware(Guard, limits=service.limits, counters=counters, token=token)
    _answer_errors(app)
    _add_shapes(app, service)
    _add_adapters(app, service)
    _add_state(app, service, counters)
    return app


def _refuse_repeated_keys(request: Request) -> None:
    """Of two values for one key of the address, none is taken."""
    keys = [key for key, _ in request.query_params.multi_items()]
    for key in keys:
        if keys.count(key) > 1:
            raise RefusedError(422, f"`{key}`: the address has it more than once")


def _answer_errors(app: FastAPI) -> None:
    """Errors as problem documents, with the messages of the library."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, problem: RefusedError) -> Response:
        return problem.response()

    @app.exception_handler(PointPeftError)
    async def unusable(_: Request, error: PointPeftError) -> Response:
        status = 404 if isinstance(error, UnknownAdapterError) else 422
        return RefusedError(status, str(error)).response()

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return RefusedError(error.status_code, str(error.detail), error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        is_unknown = found["type"] == "extra_forbidden"
        wrong = "the address has no such key, see /docs" if is_unknown else found["msg"]
        return RefusedError(422, f"`{found['loc'][-1]}`: {wrong}").response()

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return RefusedError(500, f"not a foreseen error ({type(error).__name__})").response()


def _add_shapes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", openapi_extra=dict(BODY), tags=["shapes"])
    async def predict(request: Request, asked: Annotated[_PredictQuery, Query()]) -> Response:
        """Classes or parts of each shape.

        `adapter` is needed if there are several, `category` for parts of several categories. With
        `points` the answer has the points that the model saw, or that got a part in `seg`, and
        those of the nearest training shapes where the service knows them.
        """
        with service.using(asked.adapter) as served:
            number = served.category_number(asked.category)
            uploads = await read_uploads(request, service.limits)
            return await _answers(
                served.name, uploads, lambda one: service.predict(one, served, number, asked.points)
            )

    @app.post("/v1/embed", openapi_extra=dict(BODY), tags=["shapes"])
    async def embed(request: Request, asked: Annotated[_EmbedQuery, Query()]) -> Response:
        """A feature of each shape: what enters the head of the adapter."""
        with service.using(asked.adapter) as served:
            uploads = await read_uploads(request, service.limits)
            return await _answers(served.name, uploads, lambda one: service.embed(one, served))


async def _answers(adapter: str, uploads: list[Upload], answer: Answer) -> Response:
    """One result for each shape, in their order; a problem if none can be used."""
    if not uploads:
        raise ConfigError("the form holds no shape")
    results = await asyncio.gather(*map(answer, uploads))
    errors = [result["error"] for result in results if result["error"] is not None]
    if len(errors) == len(results):
        raise RefusedError(422, errors[0], errors=errors)
    content = {"adapter": adapter, "results": results}
    is_large = any("points" in result for result in results)  # a scan takes a while
    text = await asyncio.to_thread(_as_json, content) if is_large else _as_json(content)
    return Response(text, media_type="application/json")


def _as_json(content: object) -> str:
    return json.dumps(content, allow_nan=False)


def _add_adapters(app: FastAPI, service: Service) -> None:
    @app.get("/v1/adapters", tags=["adapters"])
    async def list_adapters() -> dict[str, Any]:
        """The adapters that shapes can be asked of."""
        return {"adapters": service.list_adapters()}

    @app.post("/v1/adapters/{name}", tags=["adapters"])
    async def load_adapter(name: str) -> dict[str, Any]:
        """Load the adapter in that sub-folder of the server's folder of adapters.

        One of that name is replaced, without a gap.
        """
        return await service.load(name)

    @app.delete("/v1/adapters/{name}", status_code=204, tags=["adapters"])
    async def remove_adapter(name: str) -> None:
        """Take an adapter away; what was asked of it before is answered first."""
        await service.remove(name)


def _add_state(app: FastAPI, service: Service, counters: Counters) -> None:
    page, reference = (
        files("pointpeft.serving").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.html", "reference.html")
    )
    described = Template(reference, autoescape=True)

    @app.get("/", include_in_schema=False)
    async def page_for_people() -> HTMLResponse:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def page_of_addresses() -> HTMLResponse:
        return HTMLResponse(described.render(schema=app.openapi()), headers=_PAGE_HEADERS)

    @app.get("/healthz", tags=["state"])
    async def health() -> dict[str, str]:
        """Whether the service answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, tags=["state"])
    async def metrics() -> str:
        """Counts and latencies for Prometheus."""
        return counters.text(
            adapters=("gauge", "Adapters on the trunk.", len(service.list_adapters())),
            batches_total=("counter", "Batches that the model computed.", service.batches),
            clouds_total=("counter", "Clouds in these batches.", service.clouds),
            readers_replaced_total=(
                "counter", "Reading processes that a file ended.", service.readers.replaced
            ),
        )  # fmt: skip
