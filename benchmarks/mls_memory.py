"""What a group's state takes in memory, in bytes per member."""

import gc
import os
import tracemalloc
from collections.abc import Callable

from benchmarks.mls_contestants import Ours, nobody

from restante_crypto.mls import Add, Group, parse_key_package_message
from restante_crypto.mls.ratchet_tree import ParentNode
from restante_crypto.mls.tree_math import NodeIndex


def kept(make: Callable[[], object]) -> int:
    """Return the bytes that a value keeps, of all that Python allocated while it was made."""
    make()  # what is cached once is no part of it
    gc.collect()
    tracemalloc.start()
    value = make()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del value
    return size


def warm(group: Group) -> Group:
    """Return a group whose parents are all set, as after a Commit of everybody: the keys are random."""
    size = len(group.member(0).leaf.encryption_key) if group.member(0) else 0
    tree = group.tree.with_nodes(
        {
            NodeIndex(index): ParentNode(os.urandom(size), os.urandom(group.keys.suite.hash_bytes))
            for index in range(1, 2 * group.tree.leaves - 1, 2)
        }
    )
    return Group.in_epoch(
        tree,
        group.context,
        group.secrets,
        os.urandom(group.keys.suite.hash_bytes),
        interim=group.interim_transcript_hash,
        own_index=group.own_index,
        private_keys=group.private_keys,
        signer=group.signer,
    )


def measure(suite: int, members: int) -> dict[str, float]:
    """Return bytes per member of who has just joined, and of the same group with a tree without blank parents."""
    client = Ours()
    founder, packages, (bundle, signer) = client.beginning(suite, members)
    adds = [Add(package) for each in packages if (package := parse_key_package_message(each)) is not None]
    staged = founder.commit(adds, random=os.urandom)
    welcome = staged.welcome
    assert welcome is not None

    def join() -> Group:
        return Group.join(welcome, bundle, signer=signer, authenticate=nobody).group

    group = warm(join())
    epoch, messages = group.epoch_state(), group.message_state()

    def restore() -> Group:
        restored = Group.restore(epoch, messages)
        restored.tree.tree_hash()  # with the hashes of all nodes, which the next Commit needs
        return restored

    return {"blank": kept(join) / members, "warm": kept(restore) / members}
