"""Random schedules of a group whose members are of several implementations: everything repeats from the seed."""

from collections.abc import Callable
from random import Random

from restante_crypto.mls import Group, parse_key_package_message, tree_math
from restante_crypto.mls.ratchet_tree import ParentNode
from restante_crypto.mls.tree_math import NodeIndex
from support import peers
from support.peers import RINE, TS_MLS_2, Member, Ours, Refused

MAX_MEMBERS = 7
MAX_BATCH = 5  # messages in flight at once; ts-mls keeps ten keys of late messages

UNMERGED = "non-blank intermediate node must list leaf node in its unmerged_leaves"

Factory = Callable[[str, str], Member]
"""(kind, name) -> client."""


def left_half_is_empty(leaves: set[int]) -> bool:
    """Whether the root is no part of a path, its left half being blank.

    There ts-mls takes one step too many to the commit secret (section 7.4): both versions when they receive, the older
    one when it sends, too. So no schedule with them goes there; those with mls-rs do.
    """
    return min(leaves) >= tree_math.full_leaves(max(leaves) + 1) // 2 > 0


class Schedule:
    """A group, its members by leaf index, and a log of what was done."""

    def __init__(self, seed: int, kinds: list[str], make: Factory) -> None:
        self.random = Random(seed)
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
        able = [self.add, self.remove, self.update, self.messages, self.messages]
        if all(member.by_reference for member in self.members.values()):
            able += [self.by_reference, self.by_reference]
        self.random.choice(able)()

    def public(self) -> bool:
        return self.random.random() < 0.3

    def some_of_ours(self) -> int:
        return self.random.choice([index for index, member in self.members.items() if isinstance(member, Ours)])

    def removable(self, committer: int, gone: set[int]) -> int | None:
        """One more member to remove, but never the last one of ours: its tree is what the others are compared with."""
        able = []
        for index in self.members.keys() - gone - {committer}:
            left = self.members.keys() - gone - {index}
            known_fault = RINE not in self.kinds and left_half_is_empty(left)
            if any(isinstance(self.members[each], Ours) for each in left) and not known_fault:
                able.append(index)
        return self.random.choice(sorted(able)) if able else None

    def some(self, but: int | None = None) -> int:
        return self.random.choice([index for index in self.members if index != but])

    def add(self) -> None:
        if len(self.members) < MAX_MEMBERS:
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

    def by_reference(self) -> None:
        """Proposals of some members, all of them in the Commit of another one, perhaps with some by value."""
        committer = self.some()
        added: list[Member] = []
        removed: list[int] = []
        for _ in range(self.random.randint(1, 2)):
            proposer = self.some()
            target = self.removable(committer, set(removed)) if self.members[committer].kind != TS_MLS_2 else None
            if target is not None and self.random.random() < 0.4:
                removed.append(target)
                message = self.members[proposer].propose(None, target, public=self.public())
                self.log.append(f"{proposer} proposes to remove {target}")
            else:
                joiner = self.client(self.random.choice([kind for kind in self.kinds if kind != RINE]))
                added.append(joiner)
                message = self.members[proposer].propose(joiner.key_package, None, public=self.public())
                self.log.append(f"{proposer} proposes to add {joiner.kind}")
            for index, member in self.members.items():
                if index != proposer:
                    assert member.process(message) is None
        by_value = [self.client(self.random.choice(self.kinds))] if self.random.random() < 0.3 else []
        self.commit(committer, by_value, [], also_added=added, also_removed=removed)

    def commit(
        self,
        committer: int,
        adds: list[Member],
        removes: list[int],
        *,
        also_added: list[Member] | None = None,
        also_removed: list[int] | None = None,
    ) -> None:
        kinds = ", ".join(member.kind for member in [*adds, *(also_added or [])])
        gone = [*removes, *(also_removed or [])]
        self.log.append(f"{committer} ({self.members[committer].kind}) commits: adds [{kinds}], removes {gone}")
        packages = [member.key_package for member in adds]
        message, welcomes = self.members[committer].commit(packages, removes, public=self.public())
        following = {index: member for index, member in self.members.items() if index not in gone}
        for index, member in following.items():
            if index != committer:
                assert member.process(message) is None
        refused = []
        for joiner in [*adds, *(also_added or [])]:
            try:
                joiner.join(welcomes)
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
