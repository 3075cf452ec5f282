"""TLS of the server itself: a good pair is spoken, a wrong one told at the start; clients trust what they are told."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from minivault.api.app import create_app
from minivault.cli.client import Client
from minivault.cli.connection import ConnectionLimits
from minivault.cli.console import CliError
from minivault.cli.server import tls_of
from minivault.errors import ConfigError, EngineFailed, Overloaded
from minivault.service.loading_remote import trusted_by
from minivault.settings import Settings, load_settings
from tests.api.raw import listening
from tests.engine.remote import engine_for, hear
from tests.fakes import make_bench

BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def make_pair(
    folder: Path,
    name: str = "server",
    password: bytes | None = None,
    *,
    begin: datetime.datetime = BEGIN,
    days: float = 36500,
) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MiniVault test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(*form, locked))
    return paths


async def test_the_server_speaks_tls_and_a_client_with_its_certificate_is_answered(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path)
    context = tls_of(Settings(tls_cert=cert, tls_key=key))
    app = create_app(Settings(rate_limit=""), service=make_bench().service)
    async with listening(app, ConnectionLimits(), ssl_context_factory=lambda *_: context) as port:

        def ask(ca_file: Path | None) -> str:
            with Client(f"https://127.0.0.1:{port}", ca_file=ca_file) as client:
                return str(client.generate({"prompt": "hi"})["finish_reason"])

        assert await asyncio.to_thread(ask, cert) == "stop"
        with pytest.raises(CliError, match="MINIVAULT_CA_FILE"):
            await asyncio.to_thread(ask, None)


async def test_the_wrong_scheme_is_told(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path)
    context = tls_of(Settings(tls_cert=cert, tls_key=key))
    app = create_app(Settings(rate_limit=""), service=make_bench().service)
    for scheme, other, spoken in (("http", "https", context), ("https", "http", None)):
        factory = None if spoken is None else lambda *_: context
        async with listening(app, ConnectionLimits(), ssl_context_factory=factory) as port:
            with (
                Client(f"{scheme}://127.0.0.1:{port}") as client,
                pytest.raises(CliError, match=f"name it as {other}://127.0.0.1:{port}"),
            ):
                await asyncio.to_thread(client.health)


def test_without_a_certificate_it_is_plain_http() -> None:
    assert tls_of(Settings()) is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    cert, _ = make_pair(tmp_path)
    with pytest.raises(ConfigError, match="tls_key: there is no file"):
        tls_of(Settings(tls_cert=cert, tls_key=tmp_path / "none.key"))


@pytest.mark.parametrize("wrong", ["other key", "no PEM", "swapped", "password"])
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, wrong: str) -> None:
    cert, key = make_pair(tmp_path)
    if wrong == "other key":
        key = make_pair(tmp_path, "other")[1]
    elif wrong == "no PEM":
        key.write_text("not a key")
    elif wrong == "swapped":
        cert, key = key, cert
    else:
        cert, key = make_pair(tmp_path, "locked", b"secret")
    with pytest.raises(ConfigError, match="tls_cert and tls_key must be PEM files"):
        tls_of(Settings(tls_cert=cert, tls_key=key))


def test_one_of_the_two_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        load_settings(data_dir=tmp_path, tls_cert=tmp_path / "a.crt")


def test_client_commands_of_this_machine_use_https_when_the_server_does(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, tls_cert=tmp_path / "a.crt", tls_key=tmp_path / "a.key")
    assert settings.url == "https://127.0.0.1:8000"


def test_a_ca_file_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="ca_file must be a PEM file"):
        Client("https://127.0.0.1:1", ca_file=tmp_path / "none.pem")


async def test_a_server_behind_is_believed_by_the_certificate_that_ca_file_names(tmp_path: Path) -> None:
    cert, key = make_pair(tmp_path)
    context = tls_of(Settings(tls_cert=cert, tls_key=key))
    app = create_app(Settings(rate_limit=""), service=make_bench().service)
    async with listening(app, ConnectionLimits(), ssl_context_factory=lambda *_: context) as port:
        url = f"https://127.0.0.1:{port}/v1"
        async with engine_for(url, trusted=trusted_by(cert)) as engine:
            with pytest.raises(EngineFailed, match="in a circle"):  # it is this process that answers, and it is heard
                await hear(engine)
        async with engine_for(url) as engine:
            with pytest.raises(Overloaded, match="certificate that is not trusted"):
                await hear(engine)


def test_a_ca_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "absent.pem"):
        with pytest.raises(ConfigError, match="ca_file must be a PEM file"):
            trusted_by(tmp_path / name)
