"""Groups that continue another one, bound to it by its resumption PSK (RFC 9420 sections 11.2 and 11.3).

Here they begin; who joins one checks it in ``joining``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from restante_crypto.mls import codec, commits
from restante_crypto.mls.commits import Request, StagedCommit
from restante_crypto.mls.key_package import KeyPackage
from restante_crypto.mls.leaf_node import LeafNode, SignatureKeyPair
from restante_crypto.mls.proposals import Add, PreSharedKey, ReInit
from restante_crypto.mls.psk import RESUMPTION, PreSharedKeyID
from restante_crypto.mls.tree_validation import Authenticate
from restante_crypto.primitives import Random

if TYPE_CHECKING:
    from restante_crypto.mls.group import Group


def begin(
    group: "Group",
    wanted: ReInit,
    usage: int,
    key_packages: Sequence[KeyPackage],
    own: LeafNode,
    signer: SignatureKeyPair,
    authenticate: Authenticate,
    random: Random,
) -> StagedCommit:
    """Stage the first Commit of the group that continues this one.

    Args:
        group: the one before.
        wanted: the parameters of the new one.
        usage: USAGE_BRANCH or USAGE_REINIT.
        key_packages: of the others.
        own: what the own leaf is to say.
        signer: of the own leaf.
        authenticate: checks the credentials of the others.
        random: for keys and encapsulations.
    """
    new = type(group).create(
        wanted.suite,
        wanted.group_id,
        signer=signer,
        credential=own.credential,
        capabilities=own.capabilities,
        leaf_extensions=own.extensions,
        extensions=wanted.extensions,
        random=random,
    )
    nonce = random(new.keys.suite.hash_bytes)
    psk = PreSharedKeyID(RESUMPTION, nonce, usage=usage, psk_group_id=group.group_id, psk_epoch=group.epoch)
    request = Request(
        proposals=[*(Add(package) for package in key_packages), PreSharedKey(psk)],
        references=(),
        leaf_extensions=None,
        authenticated_data=b"",
        psks={group.group_id + codec.u64(group.epoch): group.secrets.resumption_psk},
        authenticate=authenticate,
        public=False,
        tree_in_welcome=True,
        usages=frozenset({usage}),
    )
    return commits.stage(new, request, random)
