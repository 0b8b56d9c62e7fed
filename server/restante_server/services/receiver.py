"""One connection in the role of receiver: it proves a mailbox, manages it, and takes its entries."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.errors import Refused
from restante_server.services import admission
from restante_server.services.directory import Directory
from restante_server.services.relay import Relay
from restante_server.services.subscription import Sink, Subscription
from restante_server.stores.contract import AddressSpec, Holding, Pool, SeenPool

Answer = Coroutine[Any, Any, frames.RelayFrame]

_ALONE: Final = frozenset(
    {
        frames.Open,
        frames.Create,
        frames.Subscribe,
        frames.ConsentPut,
        frames.HandlePut,
        frames.HandleDelete,
        frames.NumberConfirm,
        frames.NumberPut,
        frames.NumberDelete,
        frames.PushPut,
        frames.PushDelete,
        frames.MailboxDelete,
    }
)

_DIRECTORY: Final[dict[type, Callable[[Directory, bytes, Any], Coroutine[Any, Any, Any]]]] = {
    frames.Evaluate: Directory.evaluate,
    frames.HandlePut: Directory.put_handle,
    frames.HandleDelete: Directory.delete_handle,
    frames.NumberClaim: Directory.claim_number,
    frames.NumberConfirm: Directory.confirm_number,
    frames.NumberPut: Directory.put_number,
    frames.NumberDelete: Directory.delete_number,
    frames.NumbersGet: Directory.get_numbers,
}


class Receiver:
    """What a receiver's connection holds: its proved mailbox and its subscription.

    Attributes:
        subscription: from Subscribe on.
        proved: the mailbox is proved.
    """

    __slots__ = ("_client_nonce", "_key", "_mailbox", "_relay", "_relay_nonce", "_sink", "proved", "subscription")

    def __init__(self, relay: Relay, sink: Sink, client_nonce: bytes, relay_nonce: bytes) -> None:
        """Wait for Open, whose proof covers both nonces (32 bytes each)."""
        self._relay = relay
        self._sink = sink
        self._client_nonce = client_nonce
        self._relay_nonce = relay_nonce
        self._mailbox = b""
        self._key = b""
        self.proved = False
        self.subscription: Subscription | None = None

    def is_alone(self, frame: frames.ClientFrame) -> bool:
        """Say whether this request waits for all earlier ones and holds up all later ones."""
        return type(frame) in _ALONE

    def begin(self, frame: frames.ClientFrame) -> Answer:
        """Return the answer to a request, or what computes it. Raises Refused at once."""
        return self._HANDLERS[type(frame)](self, frame)

    def acknowledge(self, frame: frames.Ack) -> None:
        """Take an acknowledgement; a stale one closes the connection."""
        subscription = self.subscription
        if subscription is None:
            return  # pragma: no cover -- the connection's table lets none through before Subscribed
        owner = subscription.owner
        if frame.owner_token != owner.owner_token or frame.incarnation != owner.incarnation:
            self._sink.fail(Code.STALE, "owner token or incarnation")
            return
        subscription.acknowledge(frame.sequence, frame.exceptions)

    async def close(self) -> None:
        """Give the mailbox back, after the acknowledgements that were received."""
        subscription = self.subscription
        if subscription is not None:
            await self._relay.hub.remove(subscription)
            await self._relay.store.release(self._mailbox, subscription.owner.owner_token)

    def _prove(self, frame: frames.Open) -> None:
        """Check key and signature before the store is asked anything: a wrong one never learns what exists."""
        expected = proofs.mailbox_id(frame.mailbox[0], frame.receive_key, frame.id_nonce)
        message = proofs.open_message(self._relay.identity.public, frame.mailbox, self._client_nonce, self._relay_nonce)
        signed = primitives.ed25519_verify(frame.receive_key, message, frame.signature)
        if not (primitives.equal(expected, frame.mailbox) and signed):
            raise Refused(Code.UNAUTHORIZED)
        self._mailbox, self._key = frame.mailbox, frame.receive_key

    def _begin_open(self, frame: frames.Open) -> Answer:
        self._prove(frame)
        return self._open(frame)

    async def _open(self, frame: frames.Open) -> frames.RelayFrame:
        exists = await self._relay.store.has_mailbox(frame.mailbox)
        self.proved = True
        self._client_nonce = self._relay_nonce = b""
        if not exists:
            raise Refused(Code.NO_MAILBOX)
        return frames.Done(frame.request)

    async def _create(self, frame: frames.Create) -> frames.RelayFrame:
        incarnation = await admission.create_mailbox(self._relay, self._mailbox, self._key, frame.admission)
        return frames.Created(frame.request, incarnation, self._relay.identity.receipt(self._mailbox))

    async def _subscribe(self, frame: frames.Subscribe) -> frames.RelayFrame:
        seen = [SeenPool(pool.suite, pool.uploaded, pool.used) for pool in frame.pools]
        await self._relay.hub.settle(self._mailbox)  # of an older connection
        owner = await self._relay.store.subscribe(self._mailbox, frame.incarnation, frame.seen, seen)
        if owner is None:
            raise Refused(Code.NO_MAILBOX)
        # No await from here to the answer: it leaves before anything that ``start`` reads.
        relay = self._relay
        self.subscription = Subscription(self._mailbox, owner, self._sink, relay.store, relay.wrap, relay.metrics)
        relay.hub.add(self.subscription)
        self.subscription.start()
        for address in owner.spent:
            asyncio.get_running_loop().call_soon(relay.hub.announce_spent, self._mailbox, address)  # after the answer
        if notices := relay.ledger.notices(self._mailbox):
            asyncio.get_running_loop().call_soon(relay.hub.announce_disclosed, self._mailbox, notices)
        return frames.Subscribed(
            frame.request, owner.incarnation, owner.owner_token, owner.acknowledged, _counts(owner.pools)
        )

    async def _put_addresses(self, frame: frames.AddressPut) -> frames.RelayFrame:
        for spec in frame.addresses:
            if proofs.address_id(self._mailbox[0], self._key, spec.nonce) != spec.address:
                raise Refused(Code.UNAUTHORIZED, "address")
        specs = [AddressSpec(spec.address, spec.cap, spec.kind) for spec in frame.addresses]
        _refuse(await self._relay.store.put_addresses(self._mailbox, specs))
        return frames.Done(frame.request)

    async def _revoke_addresses(self, frame: frames.AddressRevoke) -> frames.RelayFrame:
        await self._relay.store.revoke_addresses(self._mailbox, frame.addresses)
        return frames.Done(frame.request)

    async def _put_prekeys(self, frame: frames.PrekeysPut) -> frames.RelayFrame:
        _refuse(
            await self._relay.store.put_prekeys(
                self._mailbox, frame.suite, frame.first, frame.packages, frame.last_resort, replace=frame.replace
            )
        )
        return frames.Done(frame.request)

    async def _status(self, frame: frames.Status) -> frames.RelayFrame:
        await self._relay.hub.settle(self._mailbox)
        status = await self._relay.store.status(self._mailbox)
        if status is None:
            raise Refused(Code.NO_MAILBOX)
        return frames.MailboxStatus(frame.request, status.sequence, status.entries, status.size, _counts(status.pools))

    async def _delete(self, frame: frames.MailboxDelete) -> frames.RelayFrame:
        await self._relay.hub.settle(self._mailbox)  # or what is told later would be stale
        await self._relay.consents.erase(self._mailbox)
        erased_at = await self._relay.eraser.erase_mailbox(self._mailbox)
        self._relay.hub.announce_deleted(self._mailbox, self.subscription)
        return frames.Erased(frame.request, erased_at, self._relay.identity.erased(self._mailbox, erased_at))

    async def _export(self, frame: frames.Export) -> frames.RelayFrame:
        await self._relay.hub.settle(self._mailbox)
        held, after = await self._relay.store.holdings(self._mailbox, frame.after)
        if not after:
            held = [*held, *await self._relay.consents.holdings(self._mailbox)]
            if self._relay.directory is not None:
                held += await self._relay.directory.holdings(self._mailbox)
            held += _disclosures(self._relay.ledger.notices(self._mailbox))
            held += await self._relay.push.holdings(self._mailbox)
        return frames.Exported(frame.request, [frames.Held(each.name, each.key, each.value) for each in held], after)

    async def _put_consent(self, frame: frames.ConsentPut) -> frames.RelayFrame:
        await self._relay.consents.put(self._mailbox, frame)
        return frames.Done(frame.request)

    async def _get_consents(self, frame: frames.ConsentGet) -> frames.RelayFrame:
        return frames.Consents(frame.request, await self._relay.consents.granted(self._mailbox))

    async def _ask_directory(self, frame: Any) -> frames.RelayFrame:  # noqa: ANN401 -- one of those below
        directory = self._relay.directory
        if directory is None:
            raise Refused(Code.NO_CONSENT, "directory")
        answer: frames.RelayFrame = await _DIRECTORY[type(frame)](directory, self._mailbox, frame)
        return answer

    def _put_push(self, frame: frames.PushPut) -> Answer:
        return self._relay.push.put(self._mailbox, frame)

    def _delete_push(self, frame: frames.PushDelete) -> Answer:
        return self._relay.push.delete(self._mailbox, frame)

    def _get_push(self, frame: frames.PushGet) -> Answer:
        return self._relay.push.get(self._mailbox, frame)

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any], Answer]]] = {
        frames.Open: _begin_open,
        frames.Create: _create,
        frames.Subscribe: _subscribe,
        frames.AddressPut: _put_addresses,
        frames.AddressRevoke: _revoke_addresses,
        frames.PrekeysPut: _put_prekeys,
        frames.Status: _status,
        frames.MailboxDelete: _delete,
        frames.Export: _export,
        frames.ConsentPut: _put_consent,
        frames.ConsentGet: _get_consents,
        frames.PushPut: _put_push,
        frames.PushDelete: _delete_push,
        frames.PushGet: _get_push,
        **dict.fromkeys(_DIRECTORY, _ask_directory),
    }


def _disclosures(notices: Sequence[tuple[bytes, bytes]]) -> list[Holding]:
    """Return what the owner may be told of disclosures, as it is told."""
    return [
        Holding(f"disclosure.{name}", number.to_bytes(4, "big"), value)
        for number, (entry, signature) in enumerate(notices)
        for name, value in (("entry", entry), ("signature", signature))
    ]


def _refuse(code: Code | None) -> None:
    if code is not None:
        raise Refused(code)


def _counts(pools: tuple[Pool, ...]) -> list[frames.PoolCount]:
    return [frames.PoolCount(pool.suite, pool.uploaded, pool.issued, pool.left, pool.last_resort) for pool in pools]
