"""The shapes that a request holds."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pointpeft.data.reading import SHAPE_SUFFIXES
from pointpeft.serving.limits import Limits
from pointpeft.serving.problems import RefusedError
from pointpeft.serving.uploads import BESIDE_SUFFIXES, Upload, plain_name

__all__ = ["BODY", "read_uploads"]

_JSON = "application/json"
_NPY = ("application/octet-stream", "application/x-npy")
_FORM = "multipart/form-data"
_BUFFER = ".bin"

BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                    "required": ["file"],
                }
            },
            _JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "points": {
                            "type": "array",
                            "items": {
                                "type": "array",
                                "items": {"type": "number"},
                                "minItems": 3,
                                "maxItems": 3,
                            },
                        }
                    },
                    "required": ["points"],
                }
            },
            _NPY[0]: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""What :func:`read_uploads` takes, in the words of OpenAPI."""


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The shapes of a request: files of a form, ``{"points": ...}`` in JSON, or an ``.npy`` array.

    Raises:
        RefusedError: the body is none of these, or holds too much.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _JSON:
        return [Upload("points", ".json", await request.body())]
    if kind in _NPY:
        return [Upload("array.npy", ".npy", await request.body())]
    if kind == _FORM:
        return await _files(request, limits)
    raise RefusedError(
        415, f"content type {kind!r}: send a form with files ({_FORM}), points ({_JSON}) or an "
        f".npy array ({_NPY[0]})", {"Accept": ", ".join((_FORM, _JSON, *_NPY))},
    )  # fmt: skip


async def _files(request: Request, limits: Limits) -> list[Upload]:
    """The shapes of a form, each with the buffers that were sent with it."""
    try:
        async with request.form(max_files=limits.max_files, max_fields=limits.max_files) as form:
            sent = [(key, value) for key, value in form.multi_items()]
            others = [key for key, value in sent if not isinstance(value, UploadFile)]
            if others:
                raise RefusedError(
                    422, f"the form has the field {plain_name(others[0])!r}: send files only; what "
                    "is asked for is part of the address, as in /v1/predict?adapter=NAME"
                )  # fmt: skip
            files = [(_name(value), value) for _, value in sent if isinstance(value, UploadFile)]
            buffers = [(name, file) for name, file in files if _suffix(name) == _BUFFER]
            beside = {name: await file.read() for name, file in buffers}
            if len(beside) < len(buffers):
                raise RefusedError(
                    422, f"two files of the form are called {buffers[-1][0]!r}: send the shapes "
                    "that they belong to in requests of their own"
                )  # fmt: skip
            return [
                Upload(name, _suffix(name), await file.read(), _needed(name, beside))
                for name, file in files
                if _suffix(name) not in BESIDE_SUFFIXES
            ]
    except HTTPException as error:  # what Starlette makes of a form that it cannot read
        if error.detail.startswith("Too many files"):
            raise RefusedError(
                422, f"the form holds more than `max_files` {limits.max_files} files: send them in "
                "several requests"
            ) from error  # fmt: skip
        raise RefusedError(400, f"the form cannot be read: {error.detail}") from error


def _name(file: UploadFile) -> str:
    name = plain_name(file.filename or "")
    if not name:
        known = " ".join(sorted(SHAPE_SUFFIXES))
        raise RefusedError(
            422, f"a file has no name: shapes are read from {known}, told by the end of the name"
        )
    return name


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _needed(name: str, beside: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return beside if _suffix(name) == ".gltf" else {}
