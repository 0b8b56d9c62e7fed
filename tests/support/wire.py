"""Hypothesis strategies for every frame, valid as PROTOCOL.md sections 5 and 8 say."""

from typing import Any, Final, get_args

import msgspec
from hypothesis import strategies as st

from restante_protocol import frames, ids, limits
from restante_protocol.errors import Code

requests = st.integers(1, 2**32 - 1)
sequences = st.integers(0, limits.MAX_SEQUENCE)
prekey_numbers = st.integers(0, limits.MAX_PREKEY_NUMBER)
suites = st.integers(1, 0xFFFF)
bodies = st.binary(min_size=1, max_size=64)
codes = st.sampled_from(Code).map(int)


def exactly(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


identifiers = st.builds(
    lambda bucket, rest: bytes([bucket]) + rest, st.integers(0, ids.BUCKETS - 1), exactly(ids.ID_BYTES - 1)
)
addresses = st.lists(identifiers, min_size=1, max_size=4)
keys = exactly(ids.KEY_BYTES)
nonces = exactly(ids.ID_NONCE_BYTES)
signatures = exactly(ids.SIGNATURE_BYTES)
message_ids = exactly(ids.MESSAGE_ID_BYTES)
fences = exactly(ids.FENCE_BYTES)
incarnations = exactly(ids.INCARNATION_BYTES)
owner_tokens = exactly(ids.OWNER_TOKEN_BYTES)
challenges = exactly(ids.CHALLENGE_BYTES)
handles = st.integers(0, 2**32 - 1)
purposes = st.text(min_size=1, max_size=8)
versions = exactly(ids.PURPOSE_VERSION_BYTES)
lifetimes = st.integers(limits.MIN_LIFETIME, limits.MAX_LIFETIME)

pool_counts = st.lists(
    st.builds(frames.PoolCount, suites, sequences, sequences, st.integers(0, 1024), st.booleans()), max_size=3
)
acks = st.integers(1, limits.MAX_SEQUENCE).flatmap(
    lambda sequence: st.builds(
        frames.Ack, owner_tokens, incarnations, st.just(sequence), st.lists(st.integers(1, sequence), max_size=4)
    )
)


def _deposits(flags: list[int], fence: st.SearchStrategy[bytes | None]) -> st.SearchStrategy[frames.Deposit]:
    to = addresses | handles
    return st.builds(frames.Deposit, requests, message_ids, to, bodies, lifetimes, fence, st.sampled_from(flags))


records = exactly(limits.DIRECTORY_RECORD_BYTES)
elements = st.lists(exactly(ids.ELEMENT_BYTES), min_size=1, max_size=limits.MAX_EVALUATIONS)
numbers = st.text("+0123456789", min_size=1, max_size=limits.MAX_NUMBER_BYTES)
found = st.lists(st.builds(frames.DirectoryRecord, identifiers, records), max_size=3)

FRAMES: Final[dict[type, st.SearchStrategy[Any]]] = {
    frames.Hello: st.builds(
        frames.Hello,
        st.lists(st.integers(2, 9), max_size=4).map(lambda others: [*others, frames.VERSION]),
        st.sampled_from([frames.ROLE_SENDER, frames.ROLE_RECEIVER]),
        challenges,
    ),
    frames.Deposit: _deposits([0, frames.FLAG_URGENT, frames.FLAG_LARGE], st.none() | fences)
    | _deposits([frames.FLAG_EPHEMERAL], st.none()),
    frames.ListPut: st.builds(frames.ListPut, requests, handles, addresses),
    frames.ListDrop: st.builds(frames.ListDrop, requests, handles),
    frames.Claim: st.builds(frames.Claim, requests, suites, addresses),
    frames.FenceGet: st.builds(frames.FenceGet, requests, fences),
    frames.SlotGet: st.builds(frames.SlotGet, requests, identifiers),
    frames.SlotPut: st.builds(
        frames.SlotPut,
        requests,
        identifiers,
        keys,
        nonces,
        st.integers(1, limits.MAX_SEQUENCE),
        st.integers(limits.MIN_LIFETIME, limits.MAX_SLOT_LIFETIME),
        st.binary(max_size=64),
        signatures,
    ),
    frames.SlotDelete: st.builds(frames.SlotDelete, requests, identifiers, keys, nonces, signatures),
    frames.Open: st.builds(frames.Open, requests, identifiers, keys, nonces, signatures),
    frames.Create: st.builds(frames.Create, requests, st.binary(max_size=limits.MAX_ADMISSION_BYTES)),
    frames.Subscribe: st.builds(
        frames.Subscribe,
        requests,
        st.just(b"") | incarnations,
        st.integers(0, limits.MAX_SEEN),
        st.lists(st.builds(frames.PoolState, suites, prekey_numbers, prekey_numbers), max_size=limits.MAX_SUITES),
    ),
    frames.Ack: acks,
    frames.AddressPut: st.builds(
        frames.AddressPut,
        requests,
        st.lists(
            st.builds(
                frames.AddressSpec,
                identifiers,
                nonces,
                st.integers(1, limits.ADDRESS_ENTRIES),
                st.sampled_from([frames.KIND_CONVERSATION, frames.KIND_INVITE]),
            ),
            min_size=1,
            max_size=4,
        ),
    ),
    frames.AddressRevoke: st.builds(frames.AddressRevoke, requests, addresses),
    frames.PrekeysPut: st.builds(
        frames.PrekeysPut,
        requests,
        suites,
        st.integers(1, limits.MAX_PREKEY_NUMBER - limits.MAX_PREKEY_BATCH),
        st.lists(bodies, max_size=4),
        st.binary(max_size=64),
        st.booleans(),
    ),
    frames.Status: st.builds(frames.Status, requests),
    frames.MailboxDelete: st.builds(frames.MailboxDelete, requests),
    frames.ConsentPut: st.builds(frames.ConsentPut, requests, purposes, st.just(b"") | versions),
    frames.ConsentGet: st.builds(frames.ConsentGet, requests),
    frames.Evaluate: st.builds(
        frames.Evaluate, requests, st.sampled_from([frames.DIRECTORY_HANDLE, frames.DIRECTORY_NUMBER]), elements
    ),
    frames.HandlePut: st.builds(frames.HandlePut, requests, identifiers, records),
    frames.HandleDelete: st.builds(frames.HandleDelete, requests),
    frames.NumberClaim: st.builds(frames.NumberClaim, requests, numbers),
    frames.NumberConfirm: st.builds(
        frames.NumberConfirm, requests, numbers, st.text("0123456789", min_size=1, max_size=6)
    ),
    frames.NumberPut: st.builds(frames.NumberPut, requests, records),
    frames.NumberDelete: st.builds(frames.NumberDelete, requests),
    frames.NumbersGet: st.builds(
        frames.NumbersGet, requests, st.integers(0, ids.BUCKETS - 1), st.just(b"") | identifiers
    ),
    frames.PushPut: st.builds(frames.PushPut, requests, st.text(min_size=1, max_size=limits.MAX_ENDPOINT_BYTES // 4)),
    frames.PushDelete: st.builds(frames.PushDelete, requests),
    frames.PushGet: st.builds(frames.PushGet, requests),
    frames.Push: st.builds(frames.Push, requests, st.text(max_size=limits.MAX_ENDPOINT_BYTES // 4)),
    frames.Evaluated: st.builds(frames.Evaluated, requests, elements, exactly(ids.PROOF_BYTES)),
    frames.Numbers: st.builds(frames.Numbers, requests, found, st.booleans()),
    frames.Consents: st.builds(
        frames.Consents, requests, st.lists(st.builds(frames.Consent, purposes, versions, sequences), max_size=3)
    ),
    frames.Export: st.builds(frames.Export, requests, st.binary(max_size=limits.MAX_CURSOR_BYTES)),
    frames.Exported: st.builds(
        frames.Exported,
        requests,
        st.lists(st.builds(frames.Held, st.text(max_size=20), st.binary(max_size=12), bodies | sequences), max_size=3),
        st.binary(max_size=limits.MAX_CURSOR_BYTES),
    ),
    frames.Erased: st.builds(frames.Erased, requests, sequences, signatures),
    frames.Welcome: st.builds(
        frames.Welcome,
        st.just(frames.VERSION),
        keys,
        challenges,
        signatures,
        st.sampled_from([frames.ADMISSION_OPEN, frames.ADMISSION_CODE, frames.ADMISSION_CLOSED]),
        st.sampled_from(["power", "failover", "process"]),
    ),
    frames.Error: st.builds(frames.Error, requests, codes, st.text(max_size=20)),
    frames.Done: st.builds(frames.Done, requests),
    frames.Deposited: st.builds(
        frames.Deposited, requests, st.lists(st.tuples(st.integers(0, 1023), codes), max_size=3)
    ),
    frames.Claimed: st.builds(
        frames.Claimed,
        requests,
        st.lists(st.builds(frames.ClaimedPrekey, codes, sequences, st.binary(max_size=64)), max_size=3),
    ),
    frames.Fence: st.builds(frames.Fence, requests, message_ids, exactly(ids.DIGEST_BYTES), bodies),
    frames.Slot: st.builds(frames.Slot, requests, st.integers(1, limits.MAX_SEQUENCE), bodies),
    frames.Created: st.builds(frames.Created, requests, incarnations, signatures),
    frames.Subscribed: st.builds(frames.Subscribed, requests, incarnations, owner_tokens, sequences, pool_counts),
    frames.Run: st.just(frames.Run(0, 1))
    | st.builds(frames.Run, st.integers(1, limits.MAX_SEQUENCE - 256), st.integers(1, 256)),
    frames.Entry: st.builds(frames.Entry, message_ids, bodies, st.none() | fences),
    frames.Drained: st.builds(frames.Drained, sequences),
    frames.MailboxStatus: st.builds(frames.MailboxStatus, requests, sequences, sequences, sequences, pool_counts),
    frames.Disclosed: st.builds(frames.Disclosed, bodies, signatures),
    frames.PrekeysLow: st.builds(frames.PrekeysLow, suites, st.integers(0, limits.PREKEYS_LOW_MARK)),
}
"""Every frame's strategy, by its type."""


def any_of(*kinds: type) -> st.SearchStrategy[Any]:
    """Return a strategy for frames of these types."""
    return st.one_of([FRAMES[kind] for kind in FRAMES if kind in kinds])  # in this order, whatever a set has


client_frames = any_of(*get_args(frames.ClientFrame))
relay_frames = any_of(*get_args(frames.RelayFrame))


def renumbered(frame: Any, request: int) -> Any:  # noqa: ANN401 -- whichever frame it is given
    """Return the frame with another request number."""
    return msgspec.structs.replace(frame, request=request)
