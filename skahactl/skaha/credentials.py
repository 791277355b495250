"""Credentials: a proxy certificate (PEM with chain and key) or a bearer token; read when used, never stored or printed.

Credentials are sent only over https or to loopback. A file that others can read is refused, as ssh refuses a key.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import ssl
import stat
from base64 import b64encode, urlsafe_b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from skahactl.errors import AuthError, ProfileError, UsageError
from skahactl.model import Secret
from skahactl.profiles import ENVIRONMENT
from skahactl.skaha.encoding import read_secret
from skahactl.system import check_regular
from skahactl.text import iso_time, time_ago

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    """Check the credentials of the profile, and return when its certificate expires (epoch seconds; None without one).

    Raises AuthError if the credentials cannot be used now, and ProfileError for an insecure channel. Does not run a
    token-command.
    """
    require_safe_channel(profile)
    if profile.auth.method == "x509":
        return current(_certificate_path(profile.auth), now, profile.name).ends
    if profile.auth.method == "token" and profile.auth.token_command is None:
        token(profile.auth, environ, profile.name)
    return None


def ends_at(profile: Profile) -> float | None:
    """Return when the certificate of the profile expires (epoch seconds); None without a readable certificate."""
    if profile.auth.method != "x509":
        return None
    try:
        return inspect(_certificate_path(profile.auth), profile.name).ends
    except AuthError:
        return None


def headers(profile: Profile, environ: Mapping[str, str], known: str | None = None) -> dict[str, str]:
    """Return the header with the token (``known``, or read now); {} for profiles without a token."""
    if profile.auth.method != "token":
        return {}
    return {"Authorization": f"Bearer {known or token(profile.auth, environ, profile.name)}"}


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """The credentials of the image registry for creates: the header, and the texts that must be masked in messages."""

    header: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def registry_auth(registry: Registry, environ: Mapping[str, str]) -> RegistryAuth:
    """Read the secret of the image registry and return its credentials (skaha-api 3.4); empty if the profile has none.

    Raises UsageError with code ``secret`` if the secret cannot be read, and ProfileError if the user or the secret
    contains a colon.
    """
    secret = _registry_secret(registry)
    if registry.user is None or secret is None:
        return RegistryAuth()
    try:
        text = _registry_text(secret, environ)
    except AuthError as error:
        raise UsageError(error.message, where=error.where, hint=error.hint, code="secret") from None
    if ":" in text or ":" in registry.user:
        raise ProfileError("the platform accepts no registry user or secret that contains a colon")
    both = f"{registry.user}:{text}"
    encoded = b64encode(both.encode()).decode("ascii")
    return RegistryAuth({"x-skaha-registry-auth": encoded}, (encoded, text, both))


def _registry_text(secret: Secret, environ: Mapping[str, str]) -> str:
    """Return the secret of the registry. Raises AuthError for a file that other users can read."""
    if secret.source == "file":
        return _private_text(Path(secret.name), "registry secret", "write it to the file (mode 0600)").strip("\r\n")
    return read_secret(secret, environ, what="profile, registry-secret")


def token(auth: Auth, environ: Mapping[str, str], name: str) -> str:
    """Return the bearer token from the token-file, token-env or token-command of the profile.

    Raises AuthError if there is no valid token, and ProfileError if the profile names no source.
    """
    where: str | None = None
    if auth.token_file is not None:
        missing, hint = "the token file is empty", "write a token to it (mode 0600), or set SKAHACTL_TOKEN"
        where = auth.token_file
        text = _private_text(Path(auth.token_file), "token file", hint).strip()
    elif auth.token_env is not None:
        missing, hint = f"the variable {auth.token_env} is not set", f"export {auth.token_env}=TOKEN (profile {name})"
        text = environ.get(auth.token_env, "").strip()
    elif auth.token_command is not None:
        missing, hint = "the token command printed nothing", "run the token-command of the profile by hand to see why"
        text, where = _token_of_command(auth.token_command, environ), shlex.join(auth.token_command)
    else:
        raise ProfileError(f"profile {name}: [auth] method token needs token-file, token-env or token-command")
    if not text:
        raise AuthError(missing, where=where, hint=hint)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AuthError("invalid token: it contains spaces or other invalid characters", where=where)
    return text


_COMMAND_SECONDS = 30.0
_EARLY = 60.0  # a token is replaced this many seconds before it expires


def _token_of_command(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run the token-command and return the first line of its output, which no message contains. Raises AuthError."""
    import subprocess

    where, hint = shlex.join(command), "run the token-command of the profile by hand to see why"
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except OSError as error:
        raise AuthError(f"the token command cannot be run: {error.strerror}", where=where, hint=hint) from None
    except subprocess.TimeoutExpired:
        raise AuthError(f"the token command took more than {_COMMAND_SECONDS:g} s", where=where, hint=hint) from None
    if done.returncode != 0:
        raise AuthError(f"the token command failed with exit code {done.returncode}", where=where, hint=hint)
    return done.stdout.split(b"\n", 1)[0].decode("ascii", "replace").strip()


class TokenCommand:
    """The token of a profile's token-command, kept in memory until it soon expires or the server refuses it."""

    def __init__(self, profile: Profile, environ: Mapping[str, str], now: Callable[[], float]) -> None:
        self._profile = profile
        self._environ = environ
        self._now = now
        self._token: str | None = None
        self._expires: float | None = None
        self._running = asyncio.Lock()

    async def token(self) -> str | None:
        """Return the token, new if needed; None for a profile without a token-command. Raises AuthError."""
        if self._profile.auth.token_command is None:
            return None
        async with self._running:
            if self._token is None or (self._expires is not None and self._expires - _EARLY < self._now()):
                auth, name = self._profile.auth, self._profile.name
                self._token = await asyncio.to_thread(token, auth, self._environ, name)
                self._expires = _expiry(self._token)
            return self._token

    def refuse(self) -> None:
        """Discard a token that the server does not accept: the command runs again before the next request."""
        self._token = None


def _expiry(token: str) -> float | None:
    """Return ``exp`` of a JSON Web Token in epoch seconds, without verifying the token; None if it has none."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None


def inspect(path: Path, name: str) -> CertificateChain:
    """Check that the file is private and has a certificate with its key, and return the chain. Raises AuthError."""
    data = _private_text(path, "certificate", _hint(name)).encode()
    chain = _certificates(data, path, name)
    _require_key(data, chain[0], path, name)
    return CertificateChain(
        subject=chain[0].subject.rfc4514_string(),
        begins=max(part.not_valid_before_utc.timestamp() for part in chain),
        ends=min(part.not_valid_after_utc.timestamp() for part in chain),
    )


def server_context(profile: Profile, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a TLS context with the trusted authorities. Raises ProfileError if they cannot be read.

    They are those of SSL_CERT_FILE and SSL_CERT_DIR, or else of the system and certifi; and those of ca-file.
    """
    file, folder = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    try:
        if file is not None:
            check_regular(Path(file))
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
            check_regular(Path(profile.client.ca_file))
            context.load_verify_locations(profile.client.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ProfileError(
                f"the certificate authorities cannot be read: {_reason(error)}", where=profile.client.ca_file
            ) from None
    return context


def load(context: ssl.SSLContext, profile: Profile) -> None:
    """Load the certificate of the profile into ``context``, if it has one. Raises AuthError."""
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
        if auth.token_command is not None:
            return f"check what this prints: {shlex.join(auth.token_command)}"
        return (
            f"write a new token to {auth.token_file}" if auth.token_file else f"set {auth.token_env} to a valid token"
        )
    if profile.name == ENVIRONMENT:
        return "set SKAHACTL_TOKEN or SKAHACTL_CERTIFICATE"
    return f"profile {profile.name} has no credentials; add them to [auth] in its file"


def outage_hint(profile: Profile) -> str:
    """Return what to do if the server cannot be reached."""
    address = f"the address of the server in {profile.path}" if profile.path else "your network"
    return f"check {address}, or try again later"


def require_safe_channel(profile: Profile) -> None:
    """Check that credentials are sent only over https or to loopback, and certificates only over https.

    Credentials include those of the registry. Raises ProfileError.
    """
    if profile.auth.method != "none" or _registry_secret(profile.registry) is not None:
        _require_https(profile, "credentials")
    if profile.auth.method == "x509" and not profile.is_local and not profile.server.lower().startswith("https:"):
        raise ProfileError(f"a certificate needs https, but the server is {profile.server}", where=profile.path)


def require_safe_secrets(profile: Profile) -> None:
    """Check that secrets of a manifest go over https or to loopback only. Raises ProfileError."""
    _require_https(profile, "secrets")


def _require_https(profile: Profile, what: str) -> None:
    parts = urlsplit(profile.server)
    if not (profile.is_local or parts.scheme == "https" or parts.hostname in LOOPBACK):
        raise ProfileError(
            f"{what} are sent only over https or to this machine; {profile.server} is neither",
            where=profile.path,
            hint="write the server as https://...",
        )


def current(path: Path, now: float, name: str) -> CertificateChain:
    """Return the chain of ``inspect`` after a check that it is valid at ``now`` (epoch seconds). Raises AuthError."""
    chain = inspect(path, name)
    if chain.ends <= now:
        raise AuthError(
            f"the certificate expired {time_ago(chain.ends, now)}",
            where=str(path),
            hint=_hint(name),
            code="expired",
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
    """Return the text of a file that only its owner can read. Raises AuthError; ``hint`` is how to get the file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # opening a FIFO must not block
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(1 << 20)
    except FileNotFoundError:
        raise AuthError(f"the {what} does not exist", where=str(path), hint=hint, code="not-logged-in") from None
    except OSError as error:
        raise AuthError(f"the {what} cannot be read: {error.strerror}", where=str(path), hint=hint) from None
    if not stat.S_ISREG(mode):
        raise AuthError(f"the {what} is not a regular file", where=str(path), hint=hint)
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
