"""What either side checks of a frame beyond its types: lengths, ranges and list sizes. PROTOCOL.md sections 5 and 8.

Wrong lengths of ids, keys and signatures are MALFORMED and close the connection: no honest peer sends them. Lists,
bodies and lifetimes beyond a limit are LIMIT and fail the request alone. No state is looked at.
"""

from collections.abc import Iterable

from restante_protocol import frames, ids, limits
from restante_protocol.errors import Code, RemoteError

_U32 = 2**32


def _length(value: bytes, length: int, what: str) -> None:
    if len(value) != length:
        raise RemoteError(Code.MALFORMED, what)


def _ids(values: Iterable[bytes], what: str) -> None:
    for value in values:
        if len(value) != ids.ID_BYTES or value[0] >= ids.BUCKETS:  # ids.is_id, in a third of its time
            raise RemoteError(Code.MALFORMED, what)


def _range(value: int, low: int, high: int, what: str) -> None:
    if not low <= value <= high:
        raise RemoteError(Code.MALFORMED, what)


def _limit(value: int, low: int, high: int, what: str) -> None:
    if not low <= value <= high:
        raise RemoteError(Code.LIMIT, what)


def _deposit(frame: frames.Deposit) -> None:
    _length(frame.message_id, ids.MESSAGE_ID_BYTES, "message id")
    if frame.fence is not None:
        _length(frame.fence, ids.FENCE_BYTES, "fence")
    if frame.flags & ~frames.KNOWN_FLAGS:
        raise RemoteError(Code.MALFORMED, "flags")
    if isinstance(frame.to, list):
        _limit(len(frame.to), 1, limits.MAX_DEPOSIT_ADDRESSES, "addresses")
        _ids(frame.to, "address")
    else:
        _range(frame.to, 0, _U32 - 1, "handle")
    large = frame.flags & frames.FLAG_LARGE
    _limit(len(frame.body), 1, limits.MAX_LARGE_BODY_BYTES if large else limits.MAX_BODY_BYTES, "body")
    _limit(frame.lifetime, limits.MIN_LIFETIME, limits.MAX_LIFETIME, "lifetime")
    if frame.fence is not None and frame.flags & frames.FLAG_EPHEMERAL:
        raise RemoteError(Code.LIMIT, "an ephemeral deposit wins no fence")


def _slot_put(frame: frames.SlotPut) -> None:
    _ids((frame.slot,), "slot")
    _length(frame.write_key, ids.KEY_BYTES, "write key")
    _length(frame.nonce, ids.ID_NONCE_BYTES, "nonce")
    _length(frame.signature, ids.SIGNATURE_BYTES, "signature")
    _range(frame.version, 1, limits.MAX_SEQUENCE, "version")
    _limit(frame.lifetime, limits.MIN_LIFETIME, limits.MAX_SLOT_LIFETIME, "lifetime")
    _limit(len(frame.body), 0, limits.MAX_SLOT_BYTES, "body")


def _subscribe(frame: frames.Subscribe) -> None:
    if frame.incarnation:
        _length(frame.incarnation, ids.INCARNATION_BYTES, "incarnation")
    _range(frame.seen, 0, limits.MAX_SEEN, "sequence")
    _limit(len(frame.pools), 0, limits.MAX_SUITES, "pools")
    for pool in frame.pools:
        _range(pool.suite, 1, 0xFFFF, "suite")
        _range(pool.uploaded, 0, limits.MAX_PREKEY_NUMBER, "prekey number")
        _range(pool.used, 0, limits.MAX_PREKEY_NUMBER, "prekey number")


def _ack(frame: frames.Ack) -> None:
    _length(frame.owner_token, ids.OWNER_TOKEN_BYTES, "owner token")
    _length(frame.incarnation, ids.INCARNATION_BYTES, "incarnation")
    _range(frame.sequence, 0, limits.MAX_SEQUENCE, "sequence")
    _range(len(frame.exceptions), 0, limits.MAX_ACK_EXCEPTIONS, "exceptions")
    for sequence in frame.exceptions:
        _range(sequence, 1, frame.sequence, "exception")


def _address_put(frame: frames.AddressPut) -> None:
    _limit(len(frame.addresses), 1, limits.MAX_ADDRESS_BATCH, "addresses")
    for spec in frame.addresses:
        _ids((spec.address,), "address")
        _length(spec.nonce, ids.ID_NONCE_BYTES, "nonce")
        _range(spec.kind, frames.KIND_CONVERSATION, frames.KIND_INVITE, "kind")
        _limit(spec.cap, 1, limits.ADDRESS_ENTRIES, "cap")


def _prekeys_put(frame: frames.PrekeysPut) -> None:
    _range(frame.suite, 1, 0xFFFF, "suite")
    _range(frame.first, 1, limits.MAX_PREKEY_NUMBER - limits.MAX_PREKEY_BATCH, "prekey number")
    _limit(len(frame.packages), 0, limits.MAX_PREKEY_BATCH, "packages")
    for package in frame.packages:
        _limit(len(package), 1, limits.MAX_PREKEY_BYTES, "package")
    _limit(len(frame.last_resort), 0, limits.MAX_PREKEY_BYTES, "last resort")


def _elements(elements: list[bytes]) -> None:
    _limit(len(elements), 1, limits.MAX_EVALUATIONS, "elements")
    for element in elements:
        _length(element, ids.ELEMENT_BYTES, "element")


def _record(place: bytes, record: bytes) -> None:
    _ids((place,), "place")
    _length(record, limits.DIRECTORY_RECORD_BYTES, "record")


def check(frame: frames.ClientFrame) -> None:  # noqa: C901, PLR0912, PLR0915 -- one arm per frame
    """Check a client's frame against every limit that needs no state.

    Raises:
        RemoteError: MALFORMED or LIMIT, with a constant detail naming the field. The request number is checked first,
            so that one that fails by LIMIT can be answered.
    """
    _range(getattr(frame, "request", 1), 1, _U32 - 1, "request")
    match frame:
        case frames.Deposit():
            _deposit(frame)
        case frames.Ack():
            _ack(frame)
        case frames.Claim():
            _range(frame.suite, 1, 0xFFFF, "suite")
            _limit(len(frame.addresses), 1, limits.MAX_CLAIM_ADDRESSES, "addresses")
            _ids(frame.addresses, "address")
        case frames.Hello():
            _range(len(frame.versions), 1, limits.MAX_VERSIONS, "versions")
            _range(frame.role, frames.ROLE_SENDER, frames.ROLE_RECEIVER, "role")
            _length(frame.nonce, ids.CHALLENGE_BYTES, "nonce")
        case frames.ListPut():
            _range(frame.handle, 0, _U32 - 1, "handle")
            _limit(len(frame.addresses), 1, limits.MAX_LIST_ADDRESSES, "addresses")
            _ids(frame.addresses, "address")
        case frames.ListDrop():
            _range(frame.handle, 0, _U32 - 1, "handle")
        case frames.FenceGet():
            _length(frame.fence, ids.FENCE_BYTES, "fence")
        case frames.SlotGet():
            _ids((frame.slot,), "slot")
        case frames.SlotPut():
            _slot_put(frame)
        case frames.SlotDelete():
            _ids((frame.slot,), "slot")
            _length(frame.write_key, ids.KEY_BYTES, "write key")
            _length(frame.nonce, ids.ID_NONCE_BYTES, "nonce")
            _length(frame.signature, ids.SIGNATURE_BYTES, "signature")
        case frames.Open():
            _ids((frame.mailbox,), "mailbox")
            _length(frame.receive_key, ids.KEY_BYTES, "receive key")
            _length(frame.id_nonce, ids.ID_NONCE_BYTES, "nonce")
            _length(frame.signature, ids.SIGNATURE_BYTES, "signature")
        case frames.Create():
            _range(len(frame.admission), 0, limits.MAX_ADMISSION_BYTES, "admission")
        case frames.Subscribe():
            _subscribe(frame)
        case frames.Export():
            _range(len(frame.after), 0, limits.MAX_CURSOR_BYTES, "cursor")
        case frames.AddressPut():
            _address_put(frame)
        case frames.AddressRevoke():
            _limit(len(frame.addresses), 1, limits.MAX_ADDRESS_BATCH, "addresses")
            _ids(frame.addresses, "address")
        case frames.PrekeysPut():
            _prekeys_put(frame)
        case frames.ConsentPut():
            _range(len(frame.purpose.encode()), 1, limits.MAX_PURPOSE_BYTES, "purpose")
            if frame.version:
                _length(frame.version, ids.PURPOSE_VERSION_BYTES, "version")
        case frames.Evaluate():
            _range(frame.kind, frames.DIRECTORY_HANDLE, frames.DIRECTORY_NUMBER, "kind")
            _elements(frame.elements)
        case frames.HandlePut():
            _record(frame.place, frame.record)
        case frames.NumberClaim():
            _limit(len(frame.number.encode()), 1, limits.MAX_NUMBER_BYTES, "number")
        case frames.NumberConfirm():
            _limit(len(frame.number.encode()), 1, limits.MAX_NUMBER_BYTES, "number")
            _limit(len(frame.code.encode()), 1, limits.NUMBER_CODE_DIGITS, "code")
        case frames.NumberPut():
            _length(frame.record, limits.DIRECTORY_RECORD_BYTES, "record")
        case frames.NumbersGet():
            _range(frame.bucket, 0, ids.BUCKETS - 1, "bucket")
            if frame.after:
                _ids((frame.after,), "place")
        case frames.PushPut():
            _limit(len(frame.endpoint.encode()), 1, limits.MAX_ENDPOINT_BYTES, "endpoint")
        case _:  # Status, MailboxDelete, and what is named Get or Delete: nothing but a number
            pass


def check_relay_frame(frame: frames.RelayFrame) -> None:  # noqa: C901, PLR0912, PLR0915 -- one arm per frame
    """Check the lengths and ranges of a relay's frame, so that a client need not.

    Raises:
        RemoteError: MALFORMED, with a constant detail naming the field.
    """
    match frame:
        case frames.Entry():
            _length(frame.message_id, ids.MESSAGE_ID_BYTES, "message id")
            if frame.fence is not None:
                _length(frame.fence, ids.FENCE_BYTES, "fence")
        case frames.Run():
            _range(frame.count, 1, _U32 - 1 if frame.first_sequence else 1, "count")
            _range(frame.first_sequence, 0, limits.MAX_SEQUENCE - frame.count + 1, "sequence")
        case frames.Welcome():
            _length(frame.relay_key, ids.KEY_BYTES, "relay key")
            _length(frame.nonce, ids.CHALLENGE_BYTES, "nonce")
            _length(frame.signature, ids.SIGNATURE_BYTES, "signature")
        case frames.Fence():
            _length(frame.message_id, ids.MESSAGE_ID_BYTES, "message id")
            _length(frame.digest, ids.DIGEST_BYTES, "digest")
        case frames.Created():
            _length(frame.incarnation, ids.INCARNATION_BYTES, "incarnation")
            _length(frame.receipt, ids.SIGNATURE_BYTES, "receipt")
        case frames.Subscribed():
            _length(frame.incarnation, ids.INCARNATION_BYTES, "incarnation")
            _length(frame.owner_token, ids.OWNER_TOKEN_BYTES, "owner token")
            _range(frame.acknowledged, 0, limits.MAX_SEQUENCE, "sequence")
        case frames.Erased():
            _length(frame.receipt, ids.SIGNATURE_BYTES, "receipt")
            _range(frame.erased_at, 0, limits.MAX_SEQUENCE, "time")
        case frames.Exported():
            _range(len(frame.after), 0, limits.MAX_CURSOR_BYTES, "cursor")
            for held in frame.held:
                if isinstance(held.value, int):
                    _range(held.value, 0, limits.MAX_SEQUENCE, "value")
        case frames.Disclosed():
            _range(len(frame.entry), 1, limits.MAX_DISCLOSURE_BYTES, "entry")
            _length(frame.signature, ids.SIGNATURE_BYTES, "signature")
        case frames.AddressSpent():
            _ids((frame.address,), "address")
        case frames.Consents():
            for consent in frame.consents:
                _range(len(consent.purpose.encode()), 1, limits.MAX_PURPOSE_BYTES, "purpose")
                _length(consent.version, ids.PURPOSE_VERSION_BYTES, "version")
                _range(consent.granted_at, 0, limits.MAX_SEQUENCE, "time")
        case frames.Evaluated():
            _elements(frame.elements)
            _length(frame.proof, ids.PROOF_BYTES, "proof")
        case frames.Numbers():
            for record in frame.records:
                _record(record.place, record.record)
        case frames.Push():
            _range(len(frame.endpoint.encode()), 0, limits.MAX_ENDPOINT_BYTES, "endpoint")
        case frames.Slot():
            _range(frame.version, 1, limits.MAX_SEQUENCE, "version")
        case frames.Drained() | frames.MailboxStatus():
            _range(frame.sequence, 0, limits.MAX_SEQUENCE, "sequence")
        case _:
            pass
