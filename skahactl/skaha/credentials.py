"""Credentials: a proxy certificate (PEM with chain and key) or a bearer token; read when used, never stored or printed.

Credentials are sent only over https or to loopback. A file that others can read is refused, as ssh refuses a key.
"""

from __future__ import annotations

import shlex
import ssl
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from skahactl.errors import AuthError, ProfileError
from skahactl.model import Secret
from skahactl.profiles import ENVIRONMENT
from skahactl.skaha.encoding import read_secret
from skahactl.text import iso_time, time_ago

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from skahactl.profile import Auth, Profile, Registry

_AGAIN = "put a new certificate into the file that SKAHACTL_CERTIFICATE names"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """A usable certificate file: its subject, and the validity of the whole chain (epoch seconds)."""

    subject: str
    begins: float
    ends: float


def check(profile: Profile, now: float, environ: Mapping[str, str]) -> float | None:
    """Return when the certificate of the profile ends (epoch seconds); None if it needs none.

    Raises AuthError if its credentials cannot be used now, and ProfileError for an insecure channel.
    """
    require_safe_channel(profile)
    if profile.auth.method == "x509":
        return current(_certificate_path(profile.auth), now, profile.name).ends
    if profile.auth.method == "token":
        token(profile.auth, environ, profile.name)
    return None


def ends_at(profile: Profile) -> float | None:
    """Return when the certificate of the profile ends (epoch seconds); None without a readable certificate."""
    if profile.auth.method != "x509":
        return None
    try:
        return inspect(_certificate_path(profile.auth), profile.name).ends
    except AuthError:
        return None


def headers(profile: Profile, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the header with the credentials; {} for certificates and without credentials."""
    if profile.auth.method != "token":
        return {}
    return {"Authorization": f"Bearer {token(profile.auth, environ, profile.name)}"}


def registry_header(registry: Registry, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the header with the credentials of the image registry for a create (skaha-api 3.4); {} without any."""
    secret = _registry_secret(registry)
    if registry.user is None or secret is None:
        return {}
    text = read_secret(secret, environ, what="profile, registry-secret")
    if ":" in text or ":" in registry.user:
        raise ProfileError("the platform accepts no registry user or secret that contains a colon")
    return {"x-skaha-registry-auth": b64encode(f"{registry.user}:{text}".encode()).decode("ascii")}


def registry_secrets(registry: Registry, environ: Mapping[str, str]) -> list[str]:
    """What must not be shown of the registry's credentials."""
    secret = _registry_secret(registry)
    if registry.user is None or secret is None:
        return []
    text = read_secret(secret, environ, what="profile, registry-secret")
    return [text, f"{registry.user}:{text}"]


def token(auth: Auth, environ: Mapping[str, str], name: str) -> str:
    """Return the bearer token, from its file or variable."""
    if auth.token_file is not None:
        text = _private_text(
            Path(auth.token_file), "token", "write one to the file (mode 0600), or set SKAHACTL_TOKEN"
        ).strip()
        where = auth.token_file
    elif auth.token_env is not None:
        text = environ.get(auth.token_env, "").strip()
        where = f"${auth.token_env}"
    else:
        raise ProfileError(f"profile {name}: [auth] method token needs token-file or token-env")
    if not text:
        raise AuthError(
            "the token is missing", where=where, hint=f"write one there, or set SKAHACTL_TOKEN (profile {name})"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AuthError("invalid token: it contains spaces or other invalid characters", where=where)
    return text


def inspect(path: Path, name: str) -> CertificateChain:
    """Check the certificate file at ``path``: private, with the key of its first certificate. Raises AuthError."""
    data = _private_text(path, "certificate", _hint(name)).encode()
    chain = _certificates(data, path, name)
    _require_key(data, chain[0], path, name)
    return CertificateChain(
        subject=chain[0].subject.rfc4514_string(),
        begins=max(part.not_valid_before_utc.timestamp() for part in chain),
        ends=min(part.not_valid_after_utc.timestamp() for part in chain),
    )


def server_context(profile: Profile, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return the trusted authorities: the usual ones or those of SSL_CERT_FILE and SSL_CERT_DIR, and ca-file."""
    file, folder = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except (OSError, ssl.SSLError) as error:
        setting = "SSL_CERT_FILE" if file is not None else "SSL_CERT_DIR"
        raise ProfileError(
            f"the certificate authorities of {setting} cannot be read: {_reason(error)}", where=file or folder
        ) from None
    if file is None and folder is None:
        import certifi

        context.load_verify_locations(certifi.where())
    if profile.client.ca_file is not None:
        try:
            context.load_verify_locations(profile.client.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ProfileError(
                f"the certificate authorities cannot be read: {_reason(error)}", where=profile.client.ca_file
            ) from None
    return context


def load(context: ssl.SSLContext, profile: Profile) -> None:
    """Add the certificate of the profile to ``context``, if it has one."""
    if profile.auth.method != "x509":
        return
    path = _certificate_path(profile.auth)
    try:
        context.load_cert_chain(path, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise AuthError(
            f"the certificate cannot be used: {_reason(error)}", where=str(path), hint=_hint(profile.name)
        ) from None


def login_hint(profile: Profile) -> str:
    """Return what to do if the server does not accept the credentials."""
    auth = profile.auth
    if auth.method == "x509":
        return f"log in with: {_login(profile.name)}" if profile.name != ENVIRONMENT else _AGAIN
    if auth.method == "token":
        return f"write a new token to {auth.token_file or f'the variable {auth.token_env}'}"
    if profile.name == ENVIRONMENT:
        return "set SKAHACTL_TOKEN or SKAHACTL_CERTIFICATE"
    return f"profile {profile.name} has no credentials; add them to [auth] in its file"


def require_safe_channel(profile: Profile) -> None:
    """Check that credentials, also of the registry, go over https or to loopback only. Raises ProfileError."""
    parts = urlsplit(profile.server)
    carries = profile.auth.method != "none" or _registry_secret(profile.registry) is not None
    if profile.is_local or parts.scheme == "https":
        return
    if carries and parts.hostname not in LOOPBACK:
        raise ProfileError(
            f"credentials are sent only over https or to this machine; {profile.server} is neither",
            where=profile.path,
            hint="write the server as https://...",
        )
    if profile.auth.method == "x509":
        raise ProfileError(f"a certificate needs https, but the server is {profile.server}", where=profile.path)


def require_safe_secrets(profile: Profile) -> None:
    """Secrets of a manifest over https or to loopback only; ProfileError otherwise."""
    parts = urlsplit(profile.server)
    if profile.is_local or parts.scheme == "https" or parts.hostname in LOOPBACK:
        return
    raise ProfileError(
        f"secrets are sent over https or to this machine only, and {profile.server} is neither",
        where=profile.path,
        hint="write the server as https://...",
    )


def current(path: Path, now: float, name: str) -> CertificateChain:
    """Like ``inspect``, and check that it is valid at ``now``."""
    chain = inspect(path, name)
    if chain.ends <= now:
        raise AuthError(
            f"the certificate expired {time_ago(chain.ends, now)}",
            where=str(path),
            hint=_hint(name),
            code="unknown",
        )
    if chain.begins > now + 300:  # clocks can differ a little
        raise AuthError(
            f"the certificate is not valid before {iso_time(chain.begins)}",
            where=str(path),
            hint="check the clock of this machine",
        )
    return chain


def _certificate_path(auth: Auth) -> Path:
    if auth.certificate is None:
        raise ProfileError("[auth] method x509 needs certificate")
    return Path(auth.certificate)


def _registry_secret(registry: Registry) -> Secret | None:
    if registry.secret_env is not None:
        return Secret("env", registry.secret_env)
    return Secret("file", registry.secret_file) if registry.secret_file is not None else None


def _private_text(path: Path, what: str, hint: str) -> str:
    """Return the text of a file that only its owner can read; ``hint`` says how to get one."""
    try:
        with path.open("rb") as stream:
            mode = path.stat().st_mode
            data = stream.read(1 << 20)
    except FileNotFoundError:
        raise AuthError(f"the {what} does not exist", where=str(path), hint=hint, code="not-logged-in") from None
    except OSError as error:
        raise AuthError(f"the {what} cannot be read: {error.strerror}", where=str(path), hint=hint) from None
    if mode & 0o077:
        raise AuthError(
            f"the {what} is readable by other users (mode {mode & 0o777:04o})",
            where=str(path),
            hint=f"chmod 600 {path}",
        )
    return data.decode("utf-8", "replace")


def _certificates(data: bytes, path: Path, name: str) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        found = b"BEGIN CERTIFICATE-----" in data
        message = "the certificate and its key cannot be read" if found else "the file contains no certificate"
        raise AuthError(message, where=str(path), hint=_hint(name)) from None


def _require_key(data: bytes, first: x509.Certificate, path: Path, name: str) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"PRIVATE KEY-----" not in data:
        raise AuthError("the file contains a certificate but no private key", where=str(path), hint=_hint(name))
    try:  # validating an RSA key takes longer than everything else; that it matches is enough
        key = load_pem_private_key(data, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise AuthError("the private key is encrypted (encrypted keys are not supported)", where=str(path)) from None
    except Exception:  # cryptography raises many errors; the key itself is never part of the message
        raise AuthError("the private key cannot be read", where=str(path), hint=_hint(name)) from None
    if key.public_key() != first.public_key():
        raise AuthError(
            "the first certificate in the file does not match the private key",
            where=str(path),
            hint="expected order: the certificate, its key, then the certificates that signed it",
        )


def _hint(name: str) -> str:
    return f"get a new one with: {_login(name)}" if name != ENVIRONMENT else _AGAIN


def _login(name: str) -> str:
    return f"skahactl login {shlex.quote(name)}"


def _reason(error: OSError | ssl.SSLError) -> str:
    return error.strerror or str(error)
