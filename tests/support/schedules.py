"""Random schedules of a group whose members are of several implementations: everything repeats from the seed."""

from collections.abc import Callable, Sequence
from random import Random

from restante_crypto.mls import (
    Add,
    Credential,
    Extension,
    ExternalSender,
    Group,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    Remove,
    RequiredCapabilities,
    encode_external_senders,
    parse_key_package_message,
    tree_math,
)
from restante_crypto.mls.extensions import REQUIRED_CAPABILITIES
from restante_crypto.mls.psk import RESUMPTION, USAGE_APPLICATION, PreSharedKeyID
from restante_crypto.mls.ratchet_tree import ParentNode
from restante_crypto.mls.tree_math import NodeIndex
from support import peers
from support.peers import OURS, RINE, TS_MLS, TS_MLS_2, Member, Ours, Refused

MAX_MEMBERS = 7  # with two implementations
MAX_BATCH = 5  # messages in flight at once; ts-mls keeps ten keys of late messages

UNMERGED = "non-blank intermediate node must list leaf node in its unmerged_leaves"

Factory = Callable[[str, str], Member]
"""(kind, name) -> client."""


def add(member: Member) -> Add:
    package = parse_key_package_message(member.key_package)
    assert package is not None
    return Add(package)


def left_half_is_empty(leaves: set[int]) -> bool:
    """Whether the root is no part of a path, its left half being blank.

    There ts-mls takes one step too many to the commit secret (section 7.4): both versions when they receive, the older
    one when it sends, too. So no schedule with them goes there; those with mls-rs do.
    """
    return min(leaves) >= tree_math.full_leaves(max(leaves) + 1) // 2 > 0


class Schedule:
    """A group, its members by leaf index, and a log of what was done."""

    def __init__(self, seed: int, kinds: Sequence[str], make: Factory) -> None:
        self.random = Random(seed)
        self.most = MAX_MEMBERS + len(kinds) - 2
        self.kinds = kinds
        self.make = make
        self.count = 0
        self.members: dict[int, Member] = {}
        self.log: list[str] = []

    def client(self, kind: str) -> Member:
        self.count += 1
        return self.make(kind, f"member {self.count}")

    def run(self, steps: int) -> None:
        founder = self.client(self.random.choice(self.kinds))
        self.log.append(f"create by {founder.kind}")
        founder.create(f"group {self.count}".encode())
        self.members = {0: founder}
        # at first one of each implementation
        self.commit(0, [self.client(kind) for kind in self.kinds], [])
        for _ in range(steps):
            self.step()
        self.messages()

    def step(self) -> None:
        able = [self.add, self.remove, self.update, self.updates, self.external, self.messages, self.messages]
        if self.all_take_proposals():
            able += [self.by_reference, self.by_reference]
        self.random.choice(able)()

    def all_take_proposals(self) -> bool:
        return all(member.by_reference for member in self.members.values())

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def some_of_ours(self) -> int:
        return self.random.choice([index for index, member in self.members.items() if isinstance(member, Ours)])

    def removable(self, committer: int, gone: set[int]) -> int | None:
        """One more member to remove, but never the last one of ours: its tree is what the others are compared with."""
        able = []
        for index in self.members.keys() - gone - {committer}:
            left = self.members.keys() - gone - {index}
            known_fault = any(kind in TS_MLS for kind in self.kinds) and left_half_is_empty(left)
            if any(isinstance(self.members[each], Ours) for each in left) and not known_fault:
                able.append(index)
        return self.random.choice(sorted(able)) if able else None

    def some(self, but: int | None = None) -> int:
        return self.random.choice([index for index in self.members if index != but])

    def add(self) -> None:
        if len(self.members) < self.most:
            count = self.random.randint(1, 2)
            self.commit(self.some(), [self.client(self.random.choice(self.kinds)) for _ in range(count)], [])

    def remove(self) -> None:
        committer = self.some()
        gone: set[int] = set()
        # see test_a_remove_without_a_path_is_refused
        for _ in range(2 if self.members[committer].kind == TS_MLS_2 else 1):
            target = self.removable(committer, gone)
            if target is None:
                return
            gone.add(target)
        self.commit(committer, [], sorted(gone))

    def update(self) -> None:
        able = [index for index, member in self.members.items() if member.kind != RINE]
        if able:
            self.commit(self.random.choice(able), [], [])

    def updates(self) -> None:
        """Updates of some of ours, in the Commit of another member: only ours can propose them."""
        # see test_an_update_is_sealed_to_its_new_key
        able = [index for index, member in self.members.items() if member.kind != TS_MLS_2]
        committer = self.random.choice(able)
        kind = self.members[committer].kind
        ours = [index for index, member in self.members.items() if isinstance(member, Ours) and index != committer]
        if not ours or (kind == RINE and len(self.members) >= self.most):
            return
        proposers = self.random.sample(ours, self.random.randint(1, min(3, len(ours))))
        for index in proposers:
            signer, public = self.chance(0.3), self.chance(0.3)
            self.log.append(f"{index} proposes an Update{' with another signature key' if signer else ''}")
            member = self.members[index]
            assert isinstance(member, Ours)
            self.tell(index, member.propose_update(signer=signer, public=public))
        # rine-mls has no Commit without a change of its own
        more = [self.client(self.random.choice(self.kinds))] if kind == RINE or self.chance(0.2) else []
        self.commit(committer, more, [], plain=True)

    def tell(self, sender: int, message: bytes) -> None:
        """Give a handshake message to all others."""
        for index, member in self.members.items():
            if index != sender:
                assert member.process(message) is None

    def external(self) -> None:
        """Somebody lets themselves in with a member's GroupInfo: a new client, or a member that comes again."""
        again = self.some() if len(self.members) > 1 and self.chance(0.5) else None
        joiner = self.client(self.random.choice(self.kinds)) if again is None else self.members[again]
        if joiner.kind in TS_MLS and self.unequal_unmerged_leaves(self.members):
            return
        shower = self.some(but=again)
        with_tree = joiner.kind == RINE or self.chance(0.7)
        tree = None if with_tree else self.our_group(self.members).tree.encode()
        info = self.members[shower].group_info(tree=with_tree)
        what = "lets itself in" if again is None else f"comes again for {again}"
        self.log.append(f"{joiner.kind} {what} with the GroupInfo of {shower} ({self.members[shower].kind})")
        message = joiner.join_externally(info, replaces=again, tree=tree)
        following = {index: member for index, member in self.members.items() if index != again}
        for member in following.values():
            assert member.process(message) is None
        self.members = dict(sorted({**following, joiner.index(): joiner}.items()))
        self.agree()

    def psk(self, *, resumption: bool) -> PreSharedKey:
        """A PSK for the next Commit; joiners do not know the resumption PSK."""
        group = self.our_group(self.members)
        nonce = self.random.randbytes(group.keys.suite.hash_bytes)
        if not resumption or self.chance(0.5):
            return PreSharedKey(peers.external_psk(nonce))
        psk = PreSharedKeyID(
            RESUMPTION, nonce, usage=USAGE_APPLICATION, psk_group_id=group.group_id, psk_epoch=group.epoch
        )
        return PreSharedKey(psk)

    def extensions(self) -> GroupContextExtensions:
        """Other extensions for the group: ts-mls ignores a list of none, and reads external senders as only one."""
        required = Extension(REQUIRED_CAPABILITIES, RequiredCapabilities(credentials=(1,)).encode())
        nothing = Extension(REQUIRED_CAPABILITIES, RequiredCapabilities().encode())
        lists: list[tuple[Extension, ...]] = [(required,), (nothing,)]
        if not set(TS_MLS) & set(self.kinds):
            senders = encode_external_senders([ExternalSender(self.random.randbytes(32), Credential.basic(b"server"))])
            lists += [(), (senders,), (required, senders)]
        return GroupContextExtensions(self.random.choice(lists))

    def by_reference(self) -> None:
        """Proposals of some members, all of them in the Commit of another one, perhaps with some by value."""
        committer = self.some()
        added: list[Member] = []
        removed: list[int] = []
        others = 0
        able = self.kinds
        for _ in range(self.random.randint(1, 2)):
            proposer = self.some()
            target = self.removable(committer, set(removed)) if self.members[committer].kind != TS_MLS_2 else None
            proposal: Proposal
            if target is not None and self.chance(0.4):
                removed.append(target)
                proposal, what = Remove(target), f"to remove {target}"
            elif self.chance(0.3):
                able = [kind for kind in self.kinds if kind != RINE]
                proposal, what = self.psk(resumption=False), "a PSK"
            elif self.members[committer].kind == OURS and not others and self.chance(0.3):
                others += 1
                proposal, what = self.extensions(), "other extensions"
            else:
                joiner = self.client(self.random.choice([kind for kind in self.kinds if kind != RINE]))
                added.append(joiner)
                proposal, what = add(joiner), f"to add {joiner.kind}"
            message = self.members[proposer].propose(proposal, public=self.chance(0.3))
            self.log.append(f"{proposer} ({self.members[proposer].kind}) proposes {what}")
            self.tell(proposer, message)
        by_value = [self.client(self.random.choice(able))] if self.chance(0.3) else []
        self.commit(committer, by_value, [], also_added=added, also_removed=removed, plain=bool(others))

    def more(self, committer: int, joiners: list[Member]) -> list[Proposal]:
        """Proposals by value beside those that add and remove: PSKs, and what only ours commits as it must be."""
        found: list[Proposal] = []
        if not any(isinstance(member, Ours) for member in self.members.values()):
            return found  # the first Commit, by somebody else
        if all(member.by_reference for member in [*self.members.values(), *joiners]) and self.chance(0.2):
            # version 2 commits no resumption PSK of the same group
            found.append(self.psk(resumption=not joiners and self.members[committer].kind != TS_MLS_2))
        if self.members[committer].kind == OURS and self.chance(0.15):
            found.append(self.extensions())
        return found

    def commit(
        self,
        committer: int,
        adds: list[Member],
        removes: list[int],
        *,
        also_added: Sequence[Member] = (),
        also_removed: Sequence[int] = (),
        plain: bool = False,
    ) -> None:
        """Commit what is added and removed by value, what was proposed, and unless ``plain`` perhaps more."""
        joiners, gone = [*adds, *also_added], [*removes, *also_removed]
        more = [] if plain else self.more(committer, joiners)
        with_tree = not any(isinstance(member, Ours) for index, member in self.members.items() if index not in gone)
        with_tree |= any(RINE in {member.kind, self.members[committer].kind} for member in joiners) or self.chance(0.7)
        kinds = ", ".join(member.kind for member in joiners)
        self.log.append(
            f"{committer} ({self.members[committer].kind}) commits: adds [{kinds}], removes {gone}, and "
            f"{[type(each).__name__ for each in more]}{'' if with_tree else ', the tree elsewhere'}"
        )
        proposals = [*(Remove(leaf) for leaf in removes), *(add(member) for member in adds), *more]
        message, welcomes = self.members[committer].commit(proposals, public=self.chance(0.3), tree=with_tree)
        following = {index: member for index, member in self.members.items() if index not in gone}
        for index, member in following.items():
            if index != committer:
                assert member.process(message) is None
        refused = []
        tree = None if with_tree else self.our_group(following).tree.encode()
        for joiner in joiners:
            try:
                joiner.join(welcomes, tree)
            except Refused as error:
                index = self.leaf_of(joiner, following)
                if UNMERGED not in str(error) or not self.unequal_unmerged_leaves(following):
                    raise
                self.log.append(f"{joiner.kind} refuses a valid tree")
                refused.append(index)
            else:
                following[joiner.index()] = joiner
        self.members = dict(sorted(following.items()))
        self.agree()
        if refused:
            self.commit(self.some_of_ours(), [], refused)

    def leaf_of(self, joiner: Member, members: dict[int, Member]) -> int:
        """Where a Commit put a KeyPackage, as our members see it."""
        group = self.our_group(members)
        package = parse_key_package_message(joiner.key_package)
        assert package is not None
        return next(member.index for member in group.members if member.leaf == package.leaf_node)

    def our_group(self, members: dict[int, Member]) -> Group:
        return next(member.group for member in members.values() if isinstance(member, Ours))

    def unequal_unmerged_leaves(self, members: dict[int, Member]) -> bool:
        """Whether parents above one unmerged leaf have different lists, which ts-mls takes for a fault.

        Section 7.9 wants that leaf in every list between it and the parent, and no more.
        """
        tree = self.our_group(members).tree
        for _, parent in tree.parents():
            for leaf in parent.unmerged_leaves:
                above = tree_math.direct_path(NodeIndex(2 * leaf), tree.leaves)
                lists = {node.unmerged_leaves for index in above if isinstance(node := tree.node(index), ParentNode)}
                if len(lists) > 1:
                    return True
        return False

    def agree(self) -> None:
        """All members are in the same epoch with the same tree and secrets."""
        states = {}
        for index, member in self.members.items():
            assert member.index() == index
            states[index] = member.state()
        ours = [member for member in self.members.values() if isinstance(member, Ours)]
        with_tag = {index for index, member in self.members.items() if member.kind == RINE}
        known = {state for index, state in states.items() if index not in with_tag}
        assert len(known) <= 1, f"members differ: {states}"
        if with_tag and ours:
            group = ours[0].group
            expected = peers.State(group.epoch, group.context.tree_hash, ours[0].confirmation_tag())
            assert {states[index] for index in with_tag} == {expected}, f"members differ: {states}"

    def messages(self) -> None:
        """A batch of messages by several members, which each of the others gets in an order of its own."""
        batch = []
        for _ in range(self.random.randint(1, MAX_BATCH)):
            sender = self.some()
            data = self.random.randbytes(self.random.choice([1, 20, 300, 2000]))
            batch.append((sender, data, self.members[sender].protect(data)))
        self.log.append(f"messages by {[sender for sender, _, _ in batch]}")
        for index, member in self.members.items():
            order = [each for each in batch if each[0] != index]
            self.random.shuffle(order)
            for _, data, message in order:
                assert member.process(message) == data

    def failed(self, seed: int) -> str:
        """What to say when it failed."""
        return "\n".join([f"seed {seed}:", *(f"  {line}" for line in self.log)])
