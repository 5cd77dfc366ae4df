"""The verb serve."""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from pointpeft.cli import options
from pointpeft.cli.console import tell
from pointpeft.errors import ConfigError
from pointpeft.locations import resolve_adapter

__all__ = ["serve"]

TOKEN = "POINTPEFT_TOKEN"
"""Environment variable that may hold the token."""
_SHORTEST = 16


def serve(
    adapters: Annotated[
        list[str],
        typer.Argument(help="Run or adapter folders, or hf://owner/name."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    folder: Annotated[
        Path | None,
        typer.Option("--adapters", help="Folder whose sub-folders may be loaded while it runs."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that requests must bear; or set {TOKEN}."),
    ] = None,
    neighbors_from: Annotated[
        str | None, typer.Option(help="Training data, to name and show the nearest shapes.")
    ] = None,
    readers: Annotated[int, typer.Option(help="Processes that read shapes.")] = 2,
    max_bytes: Annotated[int, typer.Option(help="Bytes of a request.")] = 64 << 20,
    max_files: Annotated[int, typer.Option(help="Shapes of a request.")] = 32,
    max_points: Annotated[int, typer.Option(help="Points of a shape.")] = 1_000_000,
    seconds: Annotated[int, typer.Option(help="Time for a request.")] = 60,
    checkpoint: options.Checkpoint = None,
    method: options.Method = None,
    device: options.Device = None,
) -> None:
    """Answer requests over HTTP for any number of adapters, with a page at /."""
    for each in adapters:
        resolve_adapter(each)
    options.know_method(method)
    token = _token(host, token_file)
    listener = _listen(host, port)
    try:
        import uvicorn

        from pointpeft.serving.web_app import create_app
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "fastapi", "starlette", "python_multipart"):
            raise
        raise ConfigError("install the service with 'pip install pointpeft[serve]'") from None
    from pointpeft.devices import choose_device
    from pointpeft.serving.limits import Limits
    from pointpeft.serving.served_adapters import AdapterSet
    from pointpeft.serving.service import Service

    limits = Limits(max_bytes, max_files, max_points, seconds=seconds)
    chosen = choose_device(device or "auto")
    served = AdapterSet(adapters, checkpoint, chosen, neighbors_from)
    service = Service(served, limits, folder, readers)
    tell(f"adapters: {', '.join(one.name for one in served)}")
    tell(f"page and service: http://{host}:{port}/")
    config = uvicorn.Config(
        create_app(service, token), log_level="warning", server_header=False,
        timeout_keep_alive=30, limit_concurrency=4 * limits.max_waiting,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket at an address, before anything is loaded.

    Raises:
        ConfigError: there is no such address, or another program has the port.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"`host` {host}, `port` {port}: nothing can listen there: {error}; another port may be "
            "free"
        ) from error


def _token(host: str, file: Path | None) -> str | None:
    """The token of the file or the environment; beyond this machine one is needed.

    Raises:
        ConfigError: there is none, or it is short.
    """
    from pointpeft.serving.limits import LOOPBACK

    token = os.environ.get(TOKEN, "").strip() or None
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"`token_file` {file} cannot be read: {error}") from error
    if token is not None and (len(token) < _SHORTEST or not token.isascii()):
        raise ConfigError(
            f"the token must be at least {_SHORTEST} ASCII characters: `openssl rand -hex 24` "
            "makes one"
        )
    if token is None and host not in LOOPBACK:
        raise ConfigError(
            f"`host` {host} can be reached from other machines: give a token as `token_file`, or "
            f"in the environment as {TOKEN}"
        )
    return token
