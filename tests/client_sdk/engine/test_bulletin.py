"""What a client's file remembers of what the operator has told."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from restante.engine.records import AnnouncedEvent, DisclosedEvent
from restante_crypto import primitives, proofs
from support.engines import Clock, Member, Post

SEED = bytes(32)
OLD, NEWS, NEW = (
    AnnouncedEvent(number, number, kind, {"en": "text"})
    for number, kind in ((1, "service"), (2, "news"), (3, "incident"))
)
ENTRY = {"number": 7, "at": 1, "ground": "consent", "to": "Somebody", "reason": "asked for", "fields": ["mailbox.id"]}


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """Its relay has a key that the test knows."""
    made = Member(Post(), tmp_path, "alice", Clock())
    state = made.engine._state
    with state.transaction():
        state.set_account(msgspec.structs.replace(state.account, relay_key=primitives.ed25519_public(SEED)))
    yield made
    made.engine.close()


def signed(member: Member, entry: object) -> tuple[bytes, bytes]:
    data = json.dumps(entry).encode()
    return data, primitives.ed25519_sign(SEED, proofs.disclosed_message(member.engine.mailbox, data))


def test_what_was_announced_before_is_news_to_nobody(member: Member) -> None:
    member.engine.bulletin.announced([OLD])
    assert member.events() == []
    for _ in range(2):
        member.engine.bulletin.announced([OLD, NEW])
        member.reopen()
    assert member.events() == [NEW]


def test_news_are_for_those_who_want_them(member: Member) -> None:
    bulletin, consents = member.engine.bulletin, member.engine.consents
    bulletin.announced([])
    assert bulletin.shown([OLD, NEWS]) == [OLD]
    consents.grant("news", b"version1")
    assert bulletin.shown([OLD, NEWS]) == [OLD, NEWS]
    bulletin.announced([OLD, NEWS])
    assert member.events() == [OLD, NEWS]
    consents.withdraw("news")
    bulletin.announced([OLD, NEWS, NEW])
    assert member.events() == [NEW]


def test_a_disclosure_is_told_once(member: Member) -> None:
    for _ in range(2):
        member.engine.bulletin.disclosed(*signed(member, ENTRY))
        member.reopen()
    assert member.events() == [DisclosedEvent(7, 1, "consent", "Somebody", "asked for", ["mailbox.id"])]
    member.engine.bulletin.disclosed(*signed(member, ENTRY | {"number": 8}))
    assert len(member.events()) == 1


def test_what_is_no_disclosure(member: Member) -> None:
    data, signature = signed(member, ENTRY)
    for wrong in (
        (data, bytes(64)),
        (data + b" ", signature),
        signed(member, ENTRY | {"number": 0}),
        signed(member, []),
    ):
        with pytest.raises(ValueError, match=r".+"):
            member.engine.bulletin.disclosed(*wrong)
    assert member.events() == []
