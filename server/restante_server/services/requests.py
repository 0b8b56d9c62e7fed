"""Requests and their answers: one method per frame, the same for every transport.

``Requests`` is made per connection. Its methods return the answer, or raise ``Refusal``; what the store raises becomes
a code here.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from restante_crypto import primitives, proofs
from restante_protocol import frames, limits
from restante_protocol.errors import Code

from restante_server.identity import Identity
from restante_server.services.hub import Hub, Send, Subscriber
from restante_server.stores.contract import (
    AddressSpec,
    Deposit,
    FenceLost,
    Pool,
    SeenPool,
    Store,
    StoreFull,
    StoreUnavailable,
)

ADMISSIONS: Final = {"open": frames.ADMISSION_OPEN, "invite": frames.ADMISSION_CODE, "closed": frames.ADMISSION_CLOSED}
CODE_LIFETIME: Final = 30 * 86_400


class Refusal(Exception):  # noqa: N818 -- no failure of ours
    """A request is refused.

    Attributes:
        code: for the Error frame.
        detail: a constant.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        """Keep both."""
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Requests:
    """The requests of one connection.

    Attributes:
        subscriber: the connection's subscription, once there is one.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        identity: Identity,
        admission: int,
        *,
        hello: frames.Hello,
        relay_nonce: bytes,
        send: Send,
        replaced: Callable[[], None],
    ) -> None:
        """Keep what the connection has said."""
        self._store = store
        self._hub = hub
        self._identity = identity
        self._admission = admission
        self._hello = hello
        self._relay_nonce = relay_nonce
        self._send = send
        self._replaced = replaced
        self._lists: dict[int, list[bytes]] = {}
        self._mailbox = b""
        self._receive_key = b""
        self.subscriber: Subscriber | None = None
        self._handlers: dict[type, Callable[[Any], Awaitable[frames.RelayFrame]]] = {
            frames.Deposit: self._deposit,
            frames.ListPut: self._list_put,
            frames.ListDrop: self._list_drop,
            frames.Claim: self._claim,
            frames.FenceGet: self._fence_get,
            frames.SlotGet: self._slot_get,
            frames.SlotPut: self._slot_put,
            frames.SlotDelete: self._slot_delete,
            frames.Create: self._create,
            frames.Subscribe: self._subscribe,
            frames.AddressPut: self._address_put,
            frames.AddressRevoke: self._address_revoke,
            frames.PrekeysPut: self._prekeys_put,
            frames.Status: self._status,
            frames.MailboxDelete: self._mailbox_delete,
        }

    async def answer(self, frame: frames.ClientFrame) -> frames.RelayFrame:
        """Return the answer to a request, also if it is an Error."""
        request: int = getattr(frame, "request", 0)
        try:
            return await self._handlers[type(frame)](frame)
        except Refusal as refusal:
            return frames.Error(request, refusal.code, refusal.detail)
        except StoreFull:
            return frames.Error(request, Code.FULL, "the relay has no room")
        except StoreUnavailable:
            return frames.Error(request, Code.UNAVAILABLE, "retry the same")

    def end(self) -> None:
        """The connection is gone."""
        self._lists.clear()
        if self.subscriber is not None:
            self._hub.unsubscribe(self.subscriber)
            self._hub.spawn(self._store.release(self.subscriber.mailbox, self.subscriber.owner_token))

    # The sender's.

    async def _deposit(self, frame: frames.Deposit) -> frames.RelayFrame:
        if isinstance(frame.to, int):
            if frame.to not in self._lists:
                raise Refusal(Code.NOT_FOUND, "list handle")
            addresses = self._lists[frame.to]
        else:
            addresses = frame.to
        if frame.flags & frames.FLAG_EPHEMERAL:
            mailboxes = await self._store.resolve(addresses)
            self._hub.push_ephemeral(mailboxes, frame.message_id, frame.body)
            gone = [(index, int(Code.GONE)) for index, mailbox in enumerate(mailboxes) if mailbox is None]
            return frames.Deposited(frame.request, gone)
        outcome = await self._store.deposit(
            Deposit(
                frame.message_id,
                addresses,
                frame.body,
                frame.lifetime,
                frame.fence,
                len(frame.body) > limits.MAX_BODY_BYTES,
                proofs.deposit_digest(frame.message_id, addresses, frame.body),
            )
        )
        if isinstance(outcome, FenceLost):
            raise Refusal(Code.CONFLICT, "another deposit won the fence")
        return frames.Deposited(frame.request, [(index, int(code)) for index, code in outcome.failed])

    async def _list_put(self, frame: frames.ListPut) -> frames.RelayFrame:
        if frame.handle not in self._lists and len(self._lists) >= limits.MAX_LISTS:
            raise Refusal(Code.LIMIT, "lists")
        self._lists[frame.handle] = frame.addresses
        return frames.Done(frame.request)

    async def _list_drop(self, frame: frames.ListDrop) -> frames.RelayFrame:
        self._lists.pop(frame.handle, None)
        return frames.Done(frame.request)

    async def _claim(self, frame: frames.Claim) -> frames.RelayFrame:
        claimed, low = await self._store.claim(frame.suite, frame.addresses)
        self._hub.prekeys_low(low)
        prekeys = [frames.ClaimedPrekey(int(item.code or 0), item.number, item.package) for item in claimed]
        return frames.Claimed(frame.request, prekeys)

    async def _fence_get(self, frame: frames.FenceGet) -> frames.RelayFrame:
        winner = await self._store.winner(frame.fence)
        if winner is None:
            raise Refusal(Code.NOT_FOUND, "fence")
        return frames.Fence(frame.request, winner.message_id, winner.digest, winner.body)

    async def _slot_get(self, frame: frames.SlotGet) -> frames.RelayFrame:
        slot = await self._store.get_slot(frame.slot)
        if slot is None:
            raise Refusal(Code.NOT_FOUND, "slot")
        return frames.Slot(frame.request, slot.version, slot.body)

    def _check_slot(self, frame: frames.SlotPut | frames.SlotDelete, signed: bytes) -> None:
        owns = primitives.equal(proofs.slot_id(frame.slot[0], frame.write_key, frame.nonce), frame.slot)
        signs = primitives.ed25519_verify(frame.write_key, signed, frame.signature)
        if not (owns and signs):
            raise Refusal(Code.UNAUTHORIZED, "slot")

    async def _slot_put(self, frame: frames.SlotPut) -> frames.RelayFrame:
        relay_key = self._identity.public
        self._check_slot(
            frame, proofs.slot_put_message(relay_key, frame.slot, frame.version, frame.lifetime, frame.body)
        )
        if not await self._store.put_slot(frame.slot, frame.version, frame.lifetime, frame.body):
            raise Refusal(Code.CONFLICT, "slot version")
        return frames.Done(frame.request)

    async def _slot_delete(self, frame: frames.SlotDelete) -> frames.RelayFrame:
        self._check_slot(frame, proofs.slot_delete_message(self._identity.public, frame.slot))
        await self._store.delete_slot(frame.slot)
        return frames.Done(frame.request)

    # The receiver's.

    def check_open(self, frame: frames.Open) -> None:
        """Check a proof without looking at the store: a wrong key learns nothing. Raises Refusal."""
        message = proofs.open_message(self._identity.public, frame.mailbox, self._hello.nonce, self._relay_nonce)
        owns = primitives.equal(proofs.mailbox_id(frame.mailbox[0], frame.receive_key, frame.id_nonce), frame.mailbox)
        signs = primitives.ed25519_verify(frame.receive_key, message, frame.signature)
        if not (owns and signs):
            raise Refusal(Code.UNAUTHORIZED, "mailbox")
        self._mailbox, self._receive_key = frame.mailbox, frame.receive_key

    async def open(self, frame: frames.Open) -> frames.RelayFrame:
        """Answer a proof that was checked."""
        try:
            if await self._store.has_mailbox(frame.mailbox):
                return frames.Done(frame.request)
        except StoreUnavailable:
            return frames.Error(frame.request, Code.UNAVAILABLE, "retry the same")
        return frames.Error(frame.request, Code.NO_MAILBOX, "create it")

    async def _create(self, frame: frames.Create) -> frames.RelayFrame:
        code_hash = None
        if self._admission != frames.ADMISSION_OPEN:
            admitted = primitives.ed25519_verify(
                self._identity.public, proofs.admission_message(self._mailbox), frame.admission
            )
            if not admitted and self._admission == frames.ADMISSION_CODE:
                code_hash = proofs.body_digest(frame.admission)
            elif not admitted and not await self._store.has_mailbox(self._mailbox):
                raise Refusal(Code.NOT_ADMITTED, "closed")
        incarnation = await self._store.create_mailbox(self._mailbox, self._receive_key, code_hash)
        if incarnation is None:
            raise Refusal(Code.NOT_ADMITTED, "invite code")
        receipt = self._identity.sign(proofs.admission_message(self._mailbox))
        return frames.Created(frame.request, incarnation, receipt)

    async def _subscribe(self, frame: frames.Subscribe) -> frames.RelayFrame:
        seen = [SeenPool(pool.suite, pool.uploaded, pool.used) for pool in frame.pools]
        subscription = await self._store.subscribe(self._mailbox, frame.incarnation, frame.seen, seen)
        if subscription is None:
            raise Refusal(Code.NO_MAILBOX, "create it")
        self.subscriber = Subscriber(
            self._hub,
            self._mailbox,
            subscription.owner_token,
            subscription.incarnation,
            subscription.last_sequence,
            send=self._send,
            replaced=self._replaced,
        )
        return frames.Subscribed(
            frame.request,
            subscription.incarnation,
            subscription.owner_token,
            subscription.acknowledged,
            [_pool(pool) for pool in subscription.pools],
        )

    def subscribed(self) -> None:
        """The answer to Subscribe is on its way: entries may follow."""
        if self.subscriber is not None:
            self._hub.subscribe(self.subscriber)

    async def acknowledge(self, frame: frames.Ack) -> bool:
        """Take an acknowledgement; False if it is stale."""
        subscriber = self.subscriber
        if (
            subscriber is None
            or frame.owner_token != subscriber.owner_token
            or frame.incarnation != subscriber.incarnation
            or frame.sequence > subscriber.sent
        ):
            return False
        done = self._store.acknowledge(
            self._mailbox, frame.owner_token, frame.incarnation, frame.sequence, frame.exceptions
        )
        subscriber.acknowledged(frame.sequence, frame.exceptions)
        try:
            return await done
        except (StoreFull, StoreUnavailable):
            return True  # it was not stored: the entries will come again

    async def _address_put(self, frame: frames.AddressPut) -> frames.RelayFrame:
        bucket = self._mailbox[0]
        for spec in frame.addresses:
            if proofs.address_id(bucket, self._receive_key, spec.nonce) != spec.address:
                raise Refusal(Code.UNAUTHORIZED, "address")
        specs = [AddressSpec(spec.address, spec.cap, spec.kind) for spec in frame.addresses]
        _raise(await self._store.put_addresses(self._mailbox, specs))
        return frames.Done(frame.request)

    async def _address_revoke(self, frame: frames.AddressRevoke) -> frames.RelayFrame:
        await self._store.revoke_addresses(self._mailbox, frame.addresses)
        return frames.Done(frame.request)

    async def _prekeys_put(self, frame: frames.PrekeysPut) -> frames.RelayFrame:
        _raise(
            await self._store.put_prekeys(
                self._mailbox, frame.suite, frame.first, frame.packages, frame.last_resort, replace=frame.replace
            )
        )
        return frames.Done(frame.request)

    async def _status(self, frame: frames.Status) -> frames.RelayFrame:
        status = await self._store.status(self._mailbox)
        if status is None:
            raise Refusal(Code.NO_MAILBOX, "create it")
        pools = [_pool(pool) for pool in status.pools]
        return frames.MailboxStatus(frame.request, status.sequence, status.entries, status.size, pools)

    async def _mailbox_delete(self, frame: frames.MailboxDelete) -> frames.RelayFrame:
        await self._store.delete_mailbox(self._mailbox)
        return frames.Done(frame.request)


def _pool(pool: Pool) -> frames.PoolCount:
    return frames.PoolCount(pool.suite, pool.uploaded, pool.issued, pool.left, pool.last_resort)


def _raise(code: Code | None) -> None:
    if code is not None:
        raise Refusal(code, "quota" if code is Code.LIMIT else "create it")
