"""How long the server's TLS certificate holds: asked at a start, and by ``minivault doctor``.

Reads one file. Knows nothing of TLS, nor of whether clients trust who made the certificate. The time is passed in.
"""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass
from pathlib import Path

NOTICE_DAYS = 14
RENEW = "Put a new certificate and its key in the place of tls_cert and tls_key, and start the server anew."


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when clients take a certificate, and what is to be said of that now."""

    begin: datetime.datetime
    end: datetime.datetime
    now: datetime.datetime

    @property
    def is_refused(self) -> bool:
        """Whether clients refuse it now."""
        return not self.begin <= self.now <= self.end

    @property
    def is_short(self) -> bool:
        """Whether they will within two weeks."""
        return self.end < self.now + datetime.timedelta(days=NOTICE_DAYS)

    def __str__(self) -> str:
        if self.now < self.begin:
            return f"the certificate holds only from {self.begin:%Y-%m-%d %H:%M} UTC on: clients refuse it"
        if self.now > self.end:
            return f"the certificate expired at {self.end:%Y-%m-%d %H:%M} UTC: clients refuse it"
        return f"the certificate holds until {self.end:%Y-%m-%d %H:%M} UTC"


def validity(path: Path, now: float) -> Validity | None:
    """Of the first certificate in a PEM file, which is the server's own; ``None`` where the file holds none that can be
    read here. ``now``: seconds since 1970."""
    # Later than most of a start, and by nobody who speaks no TLS.
    from cryptography.x509 import load_pem_x509_certificates

    try:
        with warnings.catch_warnings():
            # Of oddities in a certificate that OpenSSL took without a word.
            warnings.simplefilter("ignore")
            own = load_pem_x509_certificates(path.read_bytes())[0]
            return Validity(
                own.not_valid_before_utc, own.not_valid_after_utc, datetime.datetime.fromtimestamp(now, datetime.UTC)
            )
    except (OSError, ValueError):
        return None


def warning_of(path: Path | None, now: float) -> str | None:
    """What a start says of a certificate that clients refuse, or soon will; ``None``: nothing."""
    found = None if path is None else validity(path, now)
    return f"tls_cert: {found}. {RENEW}" if found is not None and (found.is_refused or found.is_short) else None
