"""The attempt's token: claims and their HMAC, so that every replica can read what any of them issued, and none keeps a list.

    base64url(claims as JSON) "." base64url(HMAC-SHA256(key, claims as JSON))

A token alone proves who asks. Whether that attempt may still speak is asked of the caches (fencing.py).
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from agenttask.api.gateway import MAX_TOKEN_CHARACTERS, TOKEN_VERSION, TokenClaims

MIN_KEY_BYTES: Final = 32
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(TokenClaims, strict=True).decode


class BadToken(ValueError):
    """The token is forged, malformed, of another version or expired; the message never repeats it."""


class BadKey(ValueError):
    """The key file has no key that is long enough."""


class Tokens:
    """Issues with the first key and accepts all: a new key is put before the old one until the old tokens have expired."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        if not keys or any(len(key) < MIN_KEY_BYTES for key in keys):
            raise BadKey(f"the token key needs lines of at least {MIN_KEY_BYTES} random characters; make one with `openssl rand -hex 32`")
        self._keys = keys

    def issue(self, claims: TokenClaims) -> str:
        """The token."""
        payload = _encode(claims)
        return f"{_text(payload)}.{_text(_sign(self._keys[0], payload))}"

    def read(self, token: str, now: float) -> TokenClaims:
        """The claims of a token that is ours and has not expired.

        Raises:
            BadToken: it is not; the signature is looked at before anything in the payload is.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise BadToken(f"the token has {len(token)} characters, at most {MAX_TOKEN_CHARACTERS} are read")
        head, dot, tail = token.partition(".")
        payload, signature = _bytes(head), _bytes(tail)
        # All keys are tried, whichever fits, so that the time tells nothing.
        fits = [hmac.compare_digest(_sign(key, payload), signature) for key in self._keys]
        if not dot or not any(fits):
            raise BadToken("the token is not of this installation")
        try:
            claims = _decode(payload)
        except msgspec.MsgspecError as error:
            raise BadToken(f"the token cannot be read: {error}") from error
        if claims.version != TOKEN_VERSION:
            raise BadToken(f"the token has version {claims.version}, this controller reads {TOKEN_VERSION}")
        if now >= claims.expires:
            raise BadToken(f"the token expired {now - claims.expires:.0f} s ago")
        return claims


def read_keys(text: bytes) -> tuple[bytes, ...]:
    """The keys in a file, one a line; empty lines are skipped."""
    return tuple(line for line in (raw.strip() for raw in text.splitlines()) if line)


def _sign(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """The bytes of unpadded base64url; nothing for what is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""
