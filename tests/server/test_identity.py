import os
from pathlib import Path

import pytest

from restante_crypto import primitives, proofs
from restante_server.identity import Identity
from restante_server.stores.contract import StoreRefused


def test_key_is_made_once_and_kept(tmp_path: Path) -> None:
    first = Identity.open(tmp_path / "new")
    assert Identity.open(tmp_path / "new").public == first.public
    assert (tmp_path / "new" / "relay.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["relay.key"]


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "relay.key").write_bytes(b"short")
    with pytest.raises(StoreRefused, match="not a key"):
        Identity.open(tmp_path)
    assert (tmp_path / "relay.key").read_bytes() == b"short"


def test_signatures(tmp_path: Path) -> None:
    identity = Identity.open(tmp_path)
    client, relay, mailbox = os.urandom(32), os.urandom(32), os.urandom(24)
    message = proofs.welcome_message(identity.public, client, relay)
    assert primitives.ed25519_verify(identity.public, message, identity.welcome(client, relay))
    receipt = identity.receipt(mailbox)
    assert identity.admits(mailbox, receipt)
    assert not identity.admits(os.urandom(24), receipt)
    assert not identity.admits(mailbox, b"code")


def test_the_seed_is_not_shown(tmp_path: Path) -> None:
    identity = Identity.open(tmp_path)
    seed = (tmp_path / "relay.key").read_bytes()
    assert repr(seed)[2:-1] not in repr(identity)
    assert seed.hex() not in repr(identity)
