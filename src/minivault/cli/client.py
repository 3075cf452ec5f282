"""Talks to a MiniVault server over its native HTTP surface.

Knows nothing of the terminal, and of the server nothing but its wire: JSON in, JSON and JSON lines out.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import quote

import httpx2

from minivault.cli.address import server_of
from minivault.cli.console import CliError, program

if TYPE_CHECKING:
    from minivault.settings import Settings

JsonObject = dict[str, Any]
Response: TypeAlias = httpx2.Response

# Connecting to this machine is instant or hopeless; an answer may take as long as it takes.
_TIMEOUT = httpx2.Timeout(connect=5.0, read=None, write=30.0, pool=5.0)


class Client:
    """One connection to a server. Every failure is a :class:`CliError` that says what to do about it.

    ``data_dir``: where a server's address was looked for first, if it was.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca_file: Path | None = None,
        data_dir: Path | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._url = _base_url(url)
        self._data_dir = data_dir
        # A proxy from the environment has no business between this process and its own machine.
        trust_env = not _is_this_machine(self._url.host)
        headers = {} if api_key is None else {"Authorization": f"Bearer {_sendable(api_key)}"}
        self._http = httpx2.Client(
            base_url=self._url,
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=trust_env,
            transport=transport,
            verify=_trusted(ca_file),
        )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A client as the settings have it: of their server, showing their key.

        Where no address was given, it is that of the server that runs on the data directory, if one does.
        """
        key = settings.api_key
        shown = None if key is None else key.get_secret_value()
        searched = None if "url" in settings.model_fields_set else settings.data_dir
        return cls(server_of(settings), api_key=shown, ca_file=settings.ca_file, data_dir=searched)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def health(self) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.get("/health", timeout=10.0)))

    def models(self) -> list[JsonObject]:
        """The catalog, with what the server has in memory of it."""
        return self.models_and_damaged()[0]

    def models_and_damaged(self) -> tuple[list[JsonObject], dict[str, str]]:
        """:meth:`models`, and what is wrong with those that cannot be served, by name."""
        with self._failures():
            found = json_of(self._checked(self._http.get("/models", timeout=30.0)))
            # Older servers tell of no damaged ones.
            return found["models"], {one["name"]: one["error"] for one in found.get("damaged", [])}

    def model(self, name: str) -> JsonObject:
        """All that is known of one model."""
        with self._failures():
            return json_of(self._checked(self._http.get(f"/models/{quote(name, safe='')}", timeout=30.0)))

    def load_model(self, name: str, keep_alive: float | None) -> None:
        body = {} if keep_alive is None else {"keep_alive": keep_alive}
        with self._failures():
            self._checked(self._http.post(f"/models/{quote(name, safe='')}/load", json=body))

    def unload_model(self, name: str) -> None:
        with self._failures():
            self._checked(self._http.post(f"/models/{quote(name, safe='')}/unload", json={}))

    def generate(self, body: Mapping[str, Any]) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.post("/generate", json=body)))

    def embed(self, body: Mapping[str, Any]) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.post("/embed", json=body)))

    def stream(self, body: Mapping[str, Any]) -> Generator[JsonObject]:
        headers = {"Accept": "application/x-ndjson"}
        with self._failures(), self._http.stream("POST", "/generate/stream", json=body, headers=headers) as response:
            if response.is_error:
                response.read()
            self._checked(response)
            for line in lines_of(response.iter_bytes()):
                piece = _object(line)
                if "error" in piece:
                    raise CliError(str(piece["error"].get("message", "The server broke off the answer.")))
                yield piece
                if piece.get("done"):
                    return
        raise CliError("The server ended the stream before its end; the answer above is incomplete.")

    def replay(self, record_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.post(f"/vault/records/{quote(record_id, safe='')}/replay")))

    def records(self, cursor: str | None, limit: int = 1000) -> JsonObject:
        query = {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
        with self._failures():
            return json_of(self._checked(self._http.get("/vault/records", params=query)))

    def proof(self, record_id: str) -> str:
        with self._failures():
            return self._checked(self._http.get(f"/vault/records/{quote(record_id, safe='')}/proof")).text

    def record(self, record_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.get(f"/vault/records/{quote(record_id, safe='')}")))

    def erase(self, record_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.delete(f"/vault/records/{quote(record_id, safe='')}/content")))

    def erase_all(self, **filters: str) -> JsonObject:
        """One batch of the calls that fit; ``more`` in the answer says whether to ask again."""
        with self._failures():
            return json_of(self._checked(self._http.delete("/vault/contents", params=filters)))

    def takes(self, field: str) -> bool:
        """Whether the body of ``POST /generate`` has this field, by the server's own description of itself."""
        with self._failures():
            described = json_of(self._checked(self._http.get("/openapi.json")))
        try:
            return field in described["components"]["schemas"]["GenerateRequest"]["properties"]
        except (KeyError, TypeError):
            return False

    def _checked(self, response: httpx2.Response) -> httpx2.Response:
        if response.is_success:
            return response
        message, code = _error(response)
        if message is None:
            message = (
                f"The server answered {response.status_code} without saying why. Is {self._url} a MiniVault server?"
            )
        if response.status_code == 401:
            message = f"{_sentence(message)} Set MINIVAULT_API_KEY to your key."
        if retry_after := response.headers.get("Retry-After"):
            message = f"{_sentence(message)} Try again in {retry_after} s."
        raise CliError(message, exit_code=2 if response.status_code in (400, 413, 422) else 1, code=code)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise CliError(
                    f"The certificate of the server at {self._url} is not one that this machine trusts. "
                    "If it is your own, name the file of its authority: MINIVAULT_CA_FILE."
                ) from None
            if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error):
                raise CliError(
                    f"The server at {self._url} speaks no TLS: name it as {self._url.copy_with(scheme='http')}"
                ) from None
            searched = "" if self._data_dir is None else f", and none runs on {self._data_dir}"
            raise CliError(
                f"No server answers at {self._url}{searched}. Start one with: {program()} serve\n"
                "Or add --local where a command has it, or name another with --url or by its --data-dir."
            ) from None
        except httpx2.HTTPError as error:
            hint = ""
            if self._url.scheme == "http" and _speaks_tls(self._url):
                hint = f" The server speaks TLS: name it as {self._url.copy_with(scheme='https')}"
            raise CliError(f"The connection to {self._url} broke ({type(error).__name__}).{hint}") from None


def _speaks_tls(url: httpx2.URL) -> bool:
    """Whether TLS is answered there, by whomever; nothing is sent but the greeting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((url.host, url.port or 80), timeout=2.0) as plain,
            context.wrap_socket(plain, server_hostname=url.host),
        ):
            return True
    except (OSError, ValueError):
        return False


def is_ours(url: str) -> bool:
    """Whether a MiniVault server answers there; asked over plain HTTP, and for a second at most."""
    try:
        with httpx2.Client(timeout=1.0, trust_env=False) as client:
            return client.get(url, headers={"Accept": "text/plain"}).text.startswith("MiniVault is running")
    except httpx2.HTTPError:
        return False


def _trusted(ca_file: Path | None) -> ssl.SSLContext | bool:
    """The authorities that may vouch for the server."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError):
        raise CliError("ca_file must be a PEM file of certificates that can be read.", exit_code=2) from None


def _sendable(api_key: str) -> str:
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise CliError("The API key must be what minivault keys create printed.", exit_code=2)
    return api_key


def _base_url(url: str) -> httpx2.URL:
    given = url if "://" in url else f"http://{url}"
    try:
        parsed = httpx2.URL(given)
        parsed.host.encode("idna")  # as the system's look-up would
    except (httpx2.InvalidURL, UnicodeError):
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise CliError("--url must be like http://127.0.0.1:8000", exit_code=2)
    if parsed.path.rstrip("/").endswith("/v1"):
        raise CliError("--url must be without /v1, which is for OpenAI's clients: http://127.0.0.1:8000", exit_code=2)
    return parsed


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def lines_of(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines that are not empty, without their ends."""
    # httpx2's iter_lines also breaks at U+2028 and its like, which JSON allows inside a string.
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest


def _object(text: bytes) -> JsonObject:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CliError("The server's answer is not what MiniVault answers. Is the URL right?")
    return value


def json_of(response: httpx2.Response) -> JsonObject:
    """
    Raises:
        CliError: it is no JSON object.
    """
    return _object(response.content)


def _sentence(message: str) -> str:
    """With a full stop, where the server's words have none."""
    return message if message.endswith((".", "!", "?")) else f"{message}."


def _error(response: httpx2.Response) -> tuple[str | None, str | None]:
    """The message and the code of a refusal; ``None`` where it has none."""
    try:
        error = json_of(response).get("error")
    except CliError:
        return None, None
    if not isinstance(error, Mapping):
        return None, None
    message, code = error.get("message"), error.get("code")
    return message if isinstance(message, str) else None, code if isinstance(code, str) else None
