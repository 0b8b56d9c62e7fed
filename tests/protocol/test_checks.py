from typing import Any

import msgspec
import pytest
from hypothesis import given

from restante_protocol import checks, frames, limits
from restante_protocol.errors import Code, RemoteError
from support import wire

ID = b"\x01" * 24
OTHER_BUCKET = b"\xf0" + bytes(23)

DEPOSIT = frames.Deposit(1, bytes(16), [ID], b"body", 60, None, 0)
SLOT_PUT = frames.SlotPut(1, ID, bytes(32), bytes(16), 1, 60, b"", bytes(64))
SLOT_DELETE = frames.SlotDelete(1, ID, bytes(32), bytes(16), bytes(64))
OPEN = frames.Open(1, ID, bytes(32), bytes(16), bytes(64))
HELLO = frames.Hello([1], 0, bytes(32))
SUBSCRIBE = frames.Subscribe(1, b"", 0, [])
ACK = frames.Ack(bytes(8), bytes(16), 5, [])
PREKEYS = frames.PrekeysPut(1, 3, 1, [b"package"], b"", replace=False)
EVALUATE = frames.Evaluate(1, frames.DIRECTORY_HANDLE, [bytes(32)])
RECORD = bytes(limits.DIRECTORY_RECORD_BYTES)
CLAIM = frames.Claim(1, 3, [ID])
SPEC = frames.AddressSpec(ID, bytes(16), 1, 0)
TOP = limits.MAX_SEQUENCE
SEEN = limits.MAX_SEEN
NUMBER = limits.MAX_PREKEY_NUMBER


def changed(frame: Any, **changes: object) -> Any:  # noqa: ANN401 -- whichever frame it is given
    return msgspec.structs.replace(frame, **changes)


def addresses(spec: frames.AddressSpec, **changes: object) -> frames.AddressPut:
    return frames.AddressPut(1, [SPEC, changed(spec, **changes)])


def pool(*numbers: int) -> frames.Subscribe:
    return msgspec.structs.replace(SUBSCRIBE, pools=[frames.PoolState(*numbers)])


@given(wire.client_frames)
def test_what_the_document_allows_passes(frame: frames.ClientFrame) -> None:
    checks.check(frame)


@given(wire.relay_frames)
def test_what_a_relay_says_passes(frame: frames.RelayFrame) -> None:
    checks.check_relay_frame(frame)


MALFORMED = {
    "request": [
        *(frames.Status(number) for number in (0, -1, 2**32)),
        changed(DEPOSIT, request=0, body=b""),  # before a limit, so that a limit can be answered
    ],
    "versions": [changed(HELLO, versions=[]), changed(HELLO, versions=[1] * 17)],
    "role": [changed(HELLO, role=2), changed(HELLO, role=-1)],
    "nonce": [
        changed(HELLO, nonce=bytes(31)),
        changed(SLOT_PUT, nonce=bytes(15)),
        changed(SLOT_DELETE, nonce=bytes(17)),
        changed(OPEN, id_nonce=b""),
        addresses(SPEC, nonce=bytes(15)),
    ],
    "message id": [changed(DEPOSIT, message_id=bytes(15)), changed(DEPOSIT, message_id=bytes(17))],
    "fence": [changed(DEPOSIT, fence=bytes(31)), frames.FenceGet(1, bytes(33)), changed(DEPOSIT, fence=b"")],
    "flags": [changed(DEPOSIT, flags=8), changed(DEPOSIT, flags=-1)],
    "address": [
        changed(DEPOSIT, to=[ID, ID[:23]]),
        changed(DEPOSIT, to=[OTHER_BUCKET]),
        frames.ListPut(1, 1, [ID, OTHER_BUCKET]),
        changed(CLAIM, addresses=[ID + b"x"]),
        frames.AddressRevoke(1, [b""]),
        addresses(SPEC, address=OTHER_BUCKET),
    ],
    "handle": [
        changed(DEPOSIT, to=2**32),
        changed(DEPOSIT, to=-1),
        frames.ListPut(1, 2**32, [ID]),
        frames.ListDrop(1, -1),
    ],
    "suite": [
        changed(CLAIM, suite=0),
        changed(CLAIM, suite=0x10000),
        changed(PREKEYS, suite=0),
        pool(0, 1, 1),
    ],
    "slot": [frames.SlotGet(1, OTHER_BUCKET), changed(SLOT_PUT, slot=b""), changed(SLOT_DELETE, slot=b"")],
    "write key": [changed(SLOT_PUT, write_key=bytes(31)), changed(SLOT_DELETE, write_key=bytes(33))],
    "signature": [
        changed(SLOT_PUT, signature=bytes(63)),
        changed(SLOT_DELETE, signature=b""),
        changed(OPEN, signature=bytes(65)),
    ],
    "version": [
        changed(SLOT_PUT, version=0),
        changed(SLOT_PUT, version=TOP + 1),
        frames.ConsentPut(1, "push", bytes(7)),
    ],
    "purpose": [frames.ConsentPut(1, "", b""), frames.ConsentPut(1, "é" * 17, b"")],
    "element": [changed(EVALUATE, elements=[bytes(32), bytes(31)]), changed(EVALUATE, elements=[b""])],
    "place": [frames.HandlePut(1, OTHER_BUCKET, RECORD), frames.NumbersGet(1, 0, b"x")],
    "record": [frames.HandlePut(1, ID, bytes(511)), frames.NumberPut(1, bytes(513))],
    "bucket": [frames.NumbersGet(1, 240, b""), frames.NumbersGet(1, -1, b"")],
    "mailbox": [changed(OPEN, mailbox=OTHER_BUCKET)],
    "receive key": [changed(OPEN, receive_key=bytes(31))],
    "admission": [frames.Create(1, bytes(257))],
    "incarnation": [changed(SUBSCRIBE, incarnation=bytes(15)), changed(ACK, incarnation=b"")],
    "sequence": [
        changed(SUBSCRIBE, seen=-1),
        changed(SUBSCRIBE, seen=SEEN + 1),
        changed(ACK, sequence=-1),
        changed(ACK, sequence=TOP + 1),
    ],
    "prekey number": [
        pool(3, -1, 0),
        pool(3, 0, NUMBER + 1),
        pool(3, NUMBER + 1, 0),
        changed(PREKEYS, first=0),
        changed(PREKEYS, first=NUMBER - 127),
    ],
    "owner token": [changed(ACK, owner_token=bytes(7))],
    "exceptions": [changed(ACK, exceptions=[1] * 257)],
    "exception": [changed(ACK, exceptions=[6]), changed(ACK, exceptions=[5, 0])],
    "kind": [
        addresses(SPEC, kind=2),
        addresses(SPEC, kind=-1),
        changed(EVALUATE, kind=2),
        changed(EVALUATE, kind=-1),
    ],
}

LIMIT = {
    "addresses": [
        changed(DEPOSIT, to=[]),
        changed(DEPOSIT, to=[ID] * 1025),
        frames.ListPut(1, 1, []),
        frames.ListPut(1, 1, [ID] * 16_385),
        changed(CLAIM, addresses=[]),
        changed(CLAIM, addresses=[ID] * 129),
        frames.AddressPut(1, []),
        frames.AddressPut(1, [SPEC] * 257),
        frames.AddressRevoke(1, []),
        frames.AddressRevoke(1, [ID] * 257),
    ],
    "body": [
        changed(DEPOSIT, body=b""),
        changed(DEPOSIT, body=bytes(98_305)),
        changed(DEPOSIT, body=bytes(1_048_577), flags=frames.FLAG_LARGE),
        changed(SLOT_PUT, body=bytes(65_537)),
    ],
    "elements": [changed(EVALUATE, elements=[]), changed(EVALUATE, elements=[bytes(32)] * 17)],
    "number": [frames.NumberClaim(1, ""), frames.NumberClaim(1, "1" * 17), frames.NumberConfirm(1, "", "1")],
    "code": [frames.NumberConfirm(1, "+1", ""), frames.NumberConfirm(1, "+1", "1234567")],
    "endpoint": [frames.PushPut(1, ""), frames.PushPut(1, "é" * 501)],
    "lifetime": [
        changed(DEPOSIT, lifetime=59),
        changed(DEPOSIT, lifetime=2_592_001),
        changed(SLOT_PUT, lifetime=59),
        changed(SLOT_PUT, lifetime=10_368_001),
    ],
    "an ephemeral deposit wins no fence": [changed(DEPOSIT, fence=bytes(32), flags=frames.FLAG_EPHEMERAL)],
    "pools": [changed(SUBSCRIBE, pools=[frames.PoolState(3, 0, 0)] * 9)],
    "cap": [addresses(SPEC, cap=0), addresses(SPEC, cap=10_001)],
    "packages": [changed(PREKEYS, packages=[b"package"] * 129)],
    "package": [changed(PREKEYS, packages=[b""]), changed(PREKEYS, packages=[bytes(limits.MAX_PREKEY_BYTES + 1)])],
    "last resort": [changed(PREKEYS, last_resort=bytes(limits.MAX_PREKEY_BYTES + 1))],
}


@pytest.mark.parametrize(
    ("code", "detail", "frame"),
    [
        pytest.param(code, detail, frame, id=f"{detail}-{type(frame).__name__}-{number}")
        for code, table in ((Code.MALFORMED, MALFORMED), (Code.LIMIT, LIMIT))
        for detail, wrong in table.items()
        for number, frame in enumerate(wrong)
    ],
)
def test_what_breaks_a_rule_is_named(code: Code, detail: str, frame: frames.ClientFrame) -> None:
    with pytest.raises(RemoteError) as caught:
        checks.check(frame)
    assert (caught.value.code, caught.value.detail) == (code, detail)


@pytest.mark.parametrize(
    "frame",
    [
        changed(DEPOSIT, body=bytes(98_304), lifetime=2_592_000, to=[ID] * 1024, fence=bytes(32)),
        changed(DEPOSIT, body=bytes(1_048_576), flags=frames.FLAG_LARGE | frames.FLAG_URGENT, to=2**32 - 1),
        frames.ListPut(2**32 - 1, 0, [ID] * 16_384),
        changed(CLAIM, addresses=[ID] * 128, suite=0xFFFF),
        frames.AddressPut(1, [changed(SPEC, cap=10_000, kind=1)] * 256),
        frames.AddressRevoke(1, [ID] * 256),
        changed(SLOT_PUT, body=bytes(65_536), lifetime=10_368_000, version=TOP),
        changed(
            PREKEYS,
            packages=[bytes(limits.MAX_PREKEY_BYTES)] * 128,
            last_resort=bytes(limits.MAX_PREKEY_BYTES),
            first=NUMBER - 128,
        ),
        changed(ACK, sequence=TOP, exceptions=[TOP] * 256),
        changed(SUBSCRIBE, incarnation=bytes(16), seen=SEEN, pools=[frames.PoolState(0xFFFF, NUMBER, NUMBER)] * 8),
        frames.Create(1, bytes(256)),
        frames.ConsentPut(1, "é" * 16, bytes(8)),
        frames.PushPut(1, "é" * 500),
        changed(HELLO, versions=[1] * 16, role=1),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_a_limit_itself_is_allowed(frame: frames.ClientFrame) -> None:
    checks.check(frame)


ENTRY = frames.Entry(bytes(16), b"body", None)
WELCOME = frames.Welcome(1, bytes(32), bytes(32), bytes(64), 0, "power")
FENCE = frames.Fence(1, bytes(16), bytes(32), b"body")
CREATED = frames.Created(1, bytes(16), bytes(64))
SUBSCRIBED = frames.Subscribed(1, bytes(16), bytes(8), 0, [])


@pytest.mark.parametrize(
    ("detail", "frame"),
    [
        ("message id", changed(ENTRY, message_id=bytes(15))),
        ("fence", changed(ENTRY, fence=bytes(31))),
        ("count", frames.Run(5, 0)),
        ("count", frames.Run(5, 2**32)),
        ("count", frames.Run(0, 2)),
        ("sequence", frames.Run(-1, 1)),
        ("sequence", frames.Run(TOP, 2)),
        ("relay key", changed(WELCOME, relay_key=bytes(31))),
        ("nonce", changed(WELCOME, nonce=bytes(31))),
        ("signature", changed(WELCOME, signature=bytes(63))),
        ("message id", changed(FENCE, message_id=bytes(17))),
        ("digest", changed(FENCE, digest=bytes(31))),
        ("incarnation", changed(CREATED, incarnation=bytes(15))),
        ("receipt", changed(CREATED, receipt=bytes(63))),
        ("incarnation", changed(SUBSCRIBED, incarnation=b"")),
        ("owner token", changed(SUBSCRIBED, owner_token=bytes(9))),
        ("sequence", changed(SUBSCRIBED, acknowledged=-1)),
        ("version", frames.Slot(1, 0, b"")),
        ("sequence", frames.Drained(-1)),
        ("sequence", frames.MailboxStatus(1, TOP + 1, 0, 0, [])),
        ("purpose", frames.Consents(1, [frames.Consent("", bytes(8), 1)])),
        ("version", frames.Consents(1, [frames.Consent("push", b"", 1)])),
        ("time", frames.Consents(1, [frames.Consent("push", bytes(8), -1)])),
        ("element", frames.Evaluated(1, [bytes(33)], bytes(64))),
        ("proof", frames.Evaluated(1, [bytes(32)], bytes(63))),
        ("place", frames.Numbers(1, [frames.DirectoryRecord(OTHER_BUCKET, RECORD)], more=False)),
        ("record", frames.Numbers(1, [frames.DirectoryRecord(ID, b"")], more=False)),
        ("endpoint", frames.Push(1, "é" * 501)),
    ],
)
def test_what_no_relay_says_is_malformed(detail: str, frame: frames.RelayFrame) -> None:
    with pytest.raises(RemoteError) as caught:
        checks.check_relay_frame(frame)
    assert (caught.value.code, caught.value.detail) == (Code.MALFORMED, detail)
