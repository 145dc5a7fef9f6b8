"""The mounted Secret: read whole or not at all, and read again when it was replaced."""

from pathlib import Path

import pytest
import trustme
from tests.fakes.gateway_desk import KEY, SecretFolder

from agenttask.api.gateway import TokenClaims
from agenttask.controller.gateway.identity import BadIdentity, SecretIdentity

CLAIMS = TokenClaims(namespace="n", task="t", uid="u", attempt=1, expires=1)


@pytest.fixture
def secret(tmp_path: Path) -> SecretFolder:
    return SecretFolder(tmp_path)


def test_a_whole_folder_is_taken(secret: SecretFolder) -> None:
    identity = SecretIdentity(secret.folder)
    assert identity.ca == secret.authority.cert_pem.bytes().decode()
    assert identity.tokens.read(identity.tokens.issue(CLAIMS), 0) == CLAIMS


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt", "token.key"])
def test_what_is_missing_is_named(secret: SecretFolder, name: str) -> None:
    (secret.folder / name).unlink()
    with pytest.raises(BadIdentity, match=rf"needs tls.crt, tls.key, ca.crt, token.key: .*{name}"):
        SecretIdentity(secret.folder)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        pytest.param("tls.crt", b"no PEM", "no pair", id="certificate"),
        pytest.param("tls.key", trustme.CA().private_key_pem.bytes(), "no pair", id="another key"),
        pytest.param("ca.crt", b"no PEM", "no PEM certificate", id="CA"),
        pytest.param("ca.crt", b"", "no PEM certificate", id="empty CA"),
        pytest.param("ca.crt", b"\xff", "needs tls.crt", id="CA that is no text"),
        pytest.param("token.key", b"short", "at least 32 random characters", id="short key"),
    ],
)
def test_what_is_wrong_is_told_and_at_a_rotation_the_old_goes_on(
    secret: SecretFolder, name: str, content: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    identity = SecretIdentity(secret.folder)
    (secret.folder / name).write_bytes(content)
    with pytest.raises(BadIdentity, match=problem):
        SecretIdentity(secret.folder)
    assert not identity.refresh()
    assert problem in caplog.text
    assert identity.tokens.read(identity.tokens.issue(CLAIMS), 0) == CLAIMS


def test_nothing_is_read_again_while_nothing_changes(secret: SecretFolder) -> None:
    assert not SecretIdentity(secret.folder).refresh()


def test_a_new_key_signs_once_it_is_there_and_the_old_one_is_accepted_while_it_stays(secret: SecretFolder) -> None:
    identity = SecretIdentity(secret.folder)
    old = identity.tokens.issue(CLAIMS)
    (secret.folder / "token.key").write_bytes(b"n" * 32 + b"\n" + KEY)
    assert identity.refresh()
    assert identity.tokens.issue(CLAIMS) != old
    assert identity.tokens.read(old, 0) == CLAIMS


def test_a_folder_that_vanishes_changes_nothing(secret: SecretFolder) -> None:
    identity = SecretIdentity(secret.folder)
    for name in ("tls.crt", "tls.key", "ca.crt", "token.key"):
        (secret.folder / name).unlink()
    assert not identity.refresh()
    assert identity.tokens.read(identity.tokens.issue(CLAIMS), 0) == CLAIMS
