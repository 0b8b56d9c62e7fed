"""One connection in the role of sender: deposits, claims, fences and slots, without any credential."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, TypeGuard

from restante_crypto import proofs
from restante_protocol import frames, ids
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_BODY_BYTES, MAX_LISTS, MAX_PREKEY_BYTES
from restante_server.errors import Refused
from restante_server.services import claims, slots
from restante_server.services.relay import Relay
from restante_server.stores.contract import Accepted, Deposit, FenceLost, Outcome

Answer = Coroutine[Any, Any, frames.RelayFrame]

_ALONE: Final = frozenset({frames.FenceGet, frames.SlotGet, frames.Deposit})  # of deposits those that are ephemeral


def deposited(frame: frames.Deposit, outcome: Accepted | FenceLost) -> frames.RelayFrame:
    """Return the answer to a deposit. Raises Refused: another deposit has won its fence."""
    if isinstance(outcome, FenceLost):
        raise Refused(Code.CONFLICT)
    return frames.Deposited(frame.request, list(outcome.failed))


class Sender:
    """What a sender's connection holds: its list handles."""

    __slots__ = ("_lists", "_relay")

    def __init__(self, relay: Relay) -> None:
        """Begin without lists."""
        self._relay = relay
        self._lists: dict[int, list[bytes]] = {}

    def is_alone(self, frame: frames.ClientFrame) -> bool:
        """Say whether this request waits for all earlier ones and holds up all later ones.

        Everything else is handed to the store in order and may be answered in any.
        """
        return type(frame) in _ALONE

    def begin(self, frame: frames.ClientFrame) -> frames.RelayFrame | Answer:
        """Return the answer to a request, or what computes it.

        Raises:
            Refused: at once.
        """
        return self._HANDLERS[type(frame)](self, frame)

    def stores(self, frame: frames.ClientFrame) -> TypeGuard[frames.Deposit | frames.Claim]:
        """Say whether ``begin_stored`` takes this request, and ``begin`` does not."""
        if isinstance(frame, frames.Deposit):
            return not frame.flags & frames.FLAG_EPHEMERAL
        return isinstance(frame, frames.Claim)

    def answer_bytes(self, frame: frames.Deposit | frames.Claim) -> int:
        """Return what an answer may hold beside the request: a package of each pool, or each address of a deposit."""
        if isinstance(frame, frames.Claim):
            return len(frame.addresses) * MAX_PREKEY_BYTES
        return len(frame.to if isinstance(frame.to, list) else self._lists.get(frame.to, ())) * ids.ID_BYTES

    def begin_stored(self, frame: frames.Deposit | frames.Claim, outcome: Outcome) -> None:
        """Begin a deposit or claim; what the outcome is told, ``deposited`` and ``claims.issued`` answer with.

        Raises:
            Refused: at once.
        """
        if isinstance(frame, frames.Claim):
            claims.begin(self._relay, frame, outcome)
            return
        addresses = self._addresses(frame)
        digest = proofs.deposit_digest(frame.message_id, addresses, frame.body)
        large = len(frame.body) > MAX_BODY_BYTES
        item = Deposit(frame.message_id, addresses, frame.body, frame.lifetime, frame.fence, large=large, digest=digest)
        self._relay.store.begin_deposit(item, outcome)

    async def close(self) -> None:
        """Free the lists."""
        for addresses in self._lists.values():
            self._relay.list_addresses.give_back(len(addresses))
        self._lists.clear()

    def _put_list(self, frame: frames.ListPut) -> frames.RelayFrame:
        held = self._lists.get(frame.handle)
        if held is None and len(self._lists) >= MAX_LISTS:
            raise Refused(Code.LIMIT, "lists")
        if not self._relay.list_addresses.take(len(frame.addresses) - len(held or ())):
            raise Refused(Code.FULL, "lists of all connections")
        self._lists[frame.handle] = frame.addresses
        return frames.Done(frame.request)

    def _drop_list(self, frame: frames.ListDrop) -> frames.RelayFrame:
        self._relay.list_addresses.give_back(len(self._lists.pop(frame.handle, ())))
        return frames.Done(frame.request)

    def _addresses(self, frame: frames.Deposit) -> list[bytes]:
        """Return where a deposit goes, and count it."""
        addresses = frame.to if isinstance(frame.to, list) else self._lists.get(frame.to)
        if addresses is None:
            raise Refused(Code.NOT_FOUND, "list handle")
        if self._relay.meter is not None:
            self._relay.meter.deposit()
        return addresses

    def _begin_ephemeral(self, frame: frames.Deposit) -> Answer:
        return self._deposit_ephemeral(frame, self._addresses(frame))

    async def _deposit_ephemeral(self, frame: frames.Deposit, addresses: list[bytes]) -> frames.RelayFrame:
        mailboxes = await self._relay.store.pass_on(addresses, frame.message_id, frame.body)
        self._relay.hub.announce_ephemeral(mailboxes, frame.message_id, frame.body)
        gone = [(index, int(Code.GONE)) for index, mailbox in enumerate(mailboxes) if mailbox is None]
        return frames.Deposited(frame.request, gone)

    def _get_slot(self, frame: frames.SlotGet) -> Answer:
        return slots.get(self._relay, frame)

    def _put_slot(self, frame: frames.SlotPut) -> Answer:
        return slots.put(self._relay, frame)

    def _delete_slot(self, frame: frames.SlotDelete) -> Answer:
        return slots.delete(self._relay, frame)

    async def _winner(self, frame: frames.FenceGet) -> frames.RelayFrame:
        winner = await self._relay.store.winner(frame.fence)
        if winner is None:
            raise Refused(Code.NOT_FOUND)
        return frames.Fence(frame.request, winner.message_id, winner.digest, winner.body)

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any], frames.RelayFrame | Answer]]] = {
        frames.Deposit: _begin_ephemeral,
        frames.ListPut: _put_list,
        frames.ListDrop: _drop_list,
        frames.FenceGet: _winner,
        frames.SlotGet: _get_slot,
        frames.SlotPut: _put_slot,
        frames.SlotDelete: _delete_slot,
    }
