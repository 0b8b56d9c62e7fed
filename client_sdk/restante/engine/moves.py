"""Moves: a conversation that began with an older cipher suite goes on with a better one (RFC 9420 section 11.2).

::

    all leaves say that they can ─▶ all leaves have an offer ─▶ a ReInit wins ─▶ a Welcome wins ─▶ the new group

Nobody holds the invites of all others, so what counts is what each device has signed in its own leaf: its suites, and
then an *offer*, a KeyPackage for the better suite whose private half is here. Members say both with a Commit of their
own. The ReInit ends the group's last epoch; its fence then goes to the Welcome of the group that continues it, for all
members at once, bound to the old group by its resumption PSK. Both steps are deposits under a fence like any Commit, so
they are stored before they leave and followed in order by whoever was away. If the one whose ReInit won does not begin
the new group, the others do, in the order of their leaves, and the fence decides.

The way is up only: suites are ranked here, alike for everybody, and a ReInit to anything else is void for everybody.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from restante.account import (
    CONVERSATION_EXTENSION,
    authenticate,
    capabilities,
    leaf_extensions,
)
from restante.engine import records
from restante.engine.conversations import Conversation, Conversations, leaf_data
from restante.engine.mailroom import Mailroom
from restante.engine.state import State
from restante_crypto import sealing
from restante_crypto.mls import (
    Extension,
    Group,
    KeyPackage,
    KeyPackageBundle,
    LeafNode,
    Member,
    MLSError,
    PathError,
    ReInit,
    StagedCommit,
    ValidationError,
    is_welcome,
    validate_key_package,
)
from restante_crypto.suites import XWING

RANKED: Final = (XWING, 0x0003)
"""The better first. A suite that is not here is neither left nor gone to."""
MOVE_DELAY: Final = 1000  # milliseconds by place: all have the same reason, and each has to commit once
BEGIN_PATIENCE: Final = 20_000  # milliseconds by place until another member begins the new group
OFFER_RENEWAL: Final = 30 * 86_400  # seconds before its end an offer is made anew
OFFER_LEAST: Final = 86_400  # seconds that an offer has to be valid for, to move by it
_GROUP_ID_BYTES: Final = 16
_MLS10: Final = 1


def is_better(suite: int, than: int) -> bool:
    """Say whether a conversation may go from one suite to the other."""
    return suite in RANKED and than in RANKED and RANKED.index(suite) < RANKED.index(than)


class Moves:
    """What this device says, checks and begins. Every change runs inside a transaction."""

    def __init__(self, state: State, conversations: Conversations, mailroom: Mailroom) -> None:
        """Nothing is read until a conversation has something better."""
        self._state = state
        self._conversations = conversations
        self._mailroom = mailroom

    # What there is to do.

    def next(self, conversation: Conversation, place: int) -> tuple[int, int] | None:
        """Return the kind of the intent that brings a move further, and after how many milliseconds; or None."""
        group = conversation.current
        if group.reinit is not None:
            return records.INTENT_BEGIN, BEGIN_PATIENCE * (1 + place)
        if not conversation.usable or not conversation.state.accepted or self._best(self._state.suites, group) is None:
            return None
        target = self._target(group)
        own = group.tree.occupied_leaf(group.own_index)
        if set(self._state.suites) - set(own.capabilities.suites) or (target and not self._stands(own, target)):
            return records.INTENT_UPDATE, MOVE_DELAY * place
        if target and self._offers(group, target, self._state.now() + OFFER_LEAST) is not None:
            return records.INTENT_REINIT, MOVE_DELAY * place
        return None

    def _best(self, suites: Sequence[int], group: Group) -> int | None:
        return next((suite for suite in RANKED if suite in suites and is_better(suite, group.suite)), None)

    def _target(self, group: Group) -> int | None:
        """Return the best suite that all leaves say they can, if it is better than the group's."""
        common = set(RANKED)
        for member in group.members:
            common &= set(member.leaf.capabilities.suites)
        return self._best(tuple(common), group)

    # Offers.

    def _stands(self, own: LeafNode, suite: int) -> bool:
        """Say whether our leaf's offer is for this suite, lasts long enough, and can be kept."""
        found = self._own_offer(own)
        return found is not None and found[0].suite == suite and self._lasts(found[0], OFFER_RENEWAL)

    def _own_offer(self, own: LeafNode) -> tuple[KeyPackage, records.Prekey] | None:
        data = leaf_data(own)
        if not data.offer:
            return None
        package = KeyPackage.parse(data.offer)
        prekey = self._mailroom.bundle(sealing.welcome_tag(package.init_key))
        return (package, prekey) if prekey is not None else None

    def _lasts(self, package: KeyPackage, seconds: int) -> bool:
        lifetime = package.leaf_node.lifetime
        return lifetime is not None and lifetime.not_after - self._state.now() >= seconds

    def leaf(self, conversation: Conversation, address: bytes | None) -> tuple[tuple[Extension, ...] | None, bool]:
        """Return the extensions of our leaf in our next Commit, None for the same; and whether it says new suites.

        ``address``: the leaf's new one, or None. An offer that is made here is used by every Commit until one wins.
        """
        group = conversation.current
        own = group.tree.occupied_leaf(group.own_index)
        before = leaf_data(own)
        offer = self._offer(conversation, own, address or b"")
        speaks_up = bool(set(self._state.suites) - set(own.capabilities.suites))
        if address is None and offer == before.offer:
            return None, speaks_up
        data = self._mailroom.leaf(address or before.address)
        return leaf_extensions(msgspec.structs.replace(data, offer=offer)), speaks_up

    def _offer(self, conversation: Conversation, own: LeafNode, taken: bytes) -> bytes:
        """Return the offer that our leaf should have; empty for none."""
        target = self._target(conversation.current)
        if target is None or target not in self._state.suites:
            return b""
        if self._stands(own, target):
            return leaf_data(own).offer
        prepared = self._mailroom.bundle(conversation.state.offer)
        if prepared is not None:
            package = KeyPackageBundle.from_bytes(prepared.bundle).key_package
            if package.suite == target and self._lasts(package, OFFER_RENEWAL):
                return package.encode()
        address = self._mailroom.spare_address(besides=taken)
        if address is None:
            return b""
        bundle = self._mailroom.new_key_package(address, target)
        self._mailroom.use_address(address, conversation.id)
        self._conversations.update(conversation, offer=self._mailroom.keep_offer(bundle, address))
        return bundle.key_package.encode()

    def _offers(self, group: Group, suite: int, until: int | None = None) -> dict[int, KeyPackage] | None:
        """Return the offers of all members by leaf, or None if one is missing; ``until``: that last until then."""
        found = {}
        for member in group.members:
            package = _offer_of(member, suite)
            if package is None or package.leaf_node.lifetime is None:
                return None
            if until is not None and package.leaf_node.lifetime.not_after < until:
                return None
            found[member.index] = package
        return found

    # The ReInit.

    def proposal(self, conversation: Conversation) -> ReInit | None:
        """Return the ReInit to commit; None if not all offers are there (any more)."""
        group = conversation.current
        target = self._target(group)
        if target is None or self._offers(group, target, self._state.now() + OFFER_LEAST) is None:
            return None
        return ReInit(self._state.random(_GROUP_ID_BYTES), _MLS10, target, _extensions(conversation))

    def check(self, conversation: Conversation, wanted: ReInit) -> None:
        """Check the ReInit of a Commit; every member comes to the same verdict. Raises ValidationError."""
        group = conversation.current
        if not is_better(wanted.suite, group.suite):
            raise ValidationError("a ReInit to a suite that is not better")
        if len(wanted.group_id) != _GROUP_ID_BYTES or wanted.group_id == group.group_id:
            raise ValidationError("a ReInit to another kind of group")
        if wanted.extensions != _extensions(conversation):
            raise ValidationError("a ReInit to another conversation")
        if self._offers(group, wanted.suite) is None:
            raise ValidationError("a ReInit to a suite that not all members offer")

    # The new group.

    def begin(self, conversation: Conversation) -> tuple[StagedCommit, bytes]:
        """Begin the new group; return it and our address in it. Raises MLSError, ValueError: it cannot be."""
        group = conversation.current
        offers = self._offers(group, group.reinit.suite if group.reinit else 0)
        own = self._own_offer(group.tree.occupied_leaf(group.own_index))
        if offers is None or own is None:
            raise ValueError("offers")
        staged = group.begin_again(
            [package for index, package in offers.items() if index != group.own_index],
            signer=self._state.signer,
            authenticate=authenticate,
            random=self._state.random,
            leaf_extensions=leaf_extensions(self._mailroom.leaf(own[1].address)),
            leaf_capabilities=capabilities(self._state.suites),
        )
        return staged, own[1].address

    def join(self, conversation: Conversation, message: bytes) -> tuple[Group, bytes]:
        """Join the group that continues an ended one; return it and our address in it.

        Raises:
            MLSError: a common one if it is no Welcome for anybody; else this device is the one that cannot join.
        """
        if not is_welcome(message):
            raise ValidationError("no Welcome under the fence of a group that has ended")
        group = conversation.current
        own = self._own_offer(group.tree.occupied_leaf(group.own_index))
        if own is None:
            raise PathError("the private half of an offer")
        prekey = own[1]
        try:
            joined = Group.join(
                message,
                KeyPackageBundle.from_bytes(prekey.bundle),
                signer=self._state.signer,
                authenticate=authenticate,
                resumed=group,
                client_of=_device,
            )
        except MLSError as error:
            raise PathError(str(error)) from None
        return joined.group, prekey.address


def _device(leaf: LeafNode) -> bytes:
    """Return what a device is known by in all its leaves; ``authenticate`` ties it to its account."""
    return leaf.signature_key


def _offer_of(member: Member, suite: int) -> KeyPackage | None:
    """Return what a member offers for a suite, if it is this device's and whole."""
    try:
        package = KeyPackage.parse(leaf_data(member.leaf).offer)
        lifetime = package.leaf_node.lifetime
        validate_key_package(package, suite, now=lifetime.not_before if lifetime else 0)
        authenticate(package.leaf_node, None)
        leaf_data(package.leaf_node)
    except (MLSError, ValueError):
        return None
    same = package.leaf_node.credential == member.leaf.credential and _device(package.leaf_node) == _device(member.leaf)
    return package if same else None


def _extensions(conversation: Conversation) -> tuple[Extension, ...]:
    """Return the GroupContext's extensions of the group that continues this one after its next epoch."""
    group = conversation.current
    data = msgspec.structs.replace(conversation.data, conversation=conversation.id, before=conversation.epoch + 1)
    return tuple(
        Extension(CONVERSATION_EXTENSION, data.encode()) if extension.type == CONVERSATION_EXTENSION else extension
        for extension in group.extensions
    )
