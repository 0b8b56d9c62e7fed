"""The fuzz target of members: two to five of them over a network that drops, repeats, reorders and corrupts.

Each byte is what happens next. Commits come by whatever way other messages come, too; the first one of an epoch wins,
as a fence makes it, and at the end everybody catches up from what a relay would have kept. Nothing but the documented
errors is raised, a failure changes nothing, nothing is opened twice, and all end in the same epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from restante_crypto.mls import (
    REQUIRED_CAPABILITIES,
    Add,
    Application,
    CommitProcessed,
    Credential,
    Extension,
    Group,
    GroupContextExtensions,
    MLSError,
    PastEpoch,
    Policy,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
    ProposalReceived,
    Remove,
    RequiredCapabilities,
    Update,
)
from restante_crypto.mls.psk import EXTERNAL
from restante_crypto.suites import SUITES
from support.mls import CAPABILITIES, Party, key_package, nobody, signature_key_pair

MOST = 5
SCRIPT = 80  # bytes of an input that are followed
PSK_ID = b"known to all"
PSKS = {PSK_ID: bytes(32)}
POLICY = Policy(external_commits=True)

_fresh = Random(7).randbytes


def state(group: Group) -> tuple[bytes, bytes, bytes]:
    return group.message_state(), group.epoch_authenticator, group.context.encode()


@dataclass(eq=False)
class Client:
    """A member, its mail (a message, and what it says if it is data), and what it has opened."""

    group: Group
    mail: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    opened: set[bytes] = field(default_factory=set)
    past: PastEpoch | None = None
    gone: bool = False


@dataclass
class Epoch:
    """What a relay keeps of an epoch: its proposals, and the Commit that won with the authenticator after it."""

    proposals: list[bytes] = field(default_factory=list)
    winner: bytes = b""
    after: bytes = b""


class Play:
    """A run of one script."""

    def __init__(self, data: bytes, suite: int) -> None:
        self.script = list(data)
        self.suite = suite
        self.clients = [Client(group) for group in Party.of(2, suite).groups.values()]
        self.epochs: dict[int, Epoch] = {}

    def number(self, below: int) -> int:
        return (self.script.pop(0) if self.script else 0) % below

    def here(self) -> list[Client]:
        return [client for client in self.clients if not client.gone]

    def someone(self) -> Client:
        here = self.here()
        return here[self.number(len(here))]

    def epoch(self, group: Group) -> Epoch:
        return self.epochs.setdefault(group.epoch, Epoch())

    def run(self) -> None:
        steps: list[Callable[[Client], None]] = [
            self.say,
            self.say,
            self.propose,
            self.commit,
            self.let_in,
            self.corrupt,
            self.shuffle,
            self.deliver,
            self.deliver,
        ]
        while self.script:
            who = self.someone()
            steps[self.number(len(steps))](who)
        for client in self.here():
            self.deliver(client)
            self.catch_up(client)
        assert len({(c.group.epoch, c.group.epoch_authenticator, c.group.tree.tree_hash()) for c in self.here()}) == 1

    # What members do.

    def post(self, sender: Client, message: bytes, data: bytes | None = None) -> None:
        """Give a message to all others, none to three times."""
        for client in self.here():
            if client is not sender:
                client.mail += [(message, data)] * (1, 1, 2, 0)[self.number(4)]

    def say(self, who: Client) -> None:
        data = bytes(self.number(256) for _ in range(3))
        if who.group.proposals:  # section 12.4: first they are committed
            return
        protected = who.group.protect(data, random=_fresh)
        who.group = protected.group
        self.post(who, protected.message, data)

    def proposal(self, kind: int) -> Proposal:
        match kind:
            case 0:
                return Remove(self.someone().group.own_index)
            case 1:
                return Add(key_package(signature_key_pair(), suite=self.suite).key_package)  # who never comes
            case 2:
                nonce = _fresh(SUITES[self.suite].hash_bytes)
                return PreSharedKey(PreSharedKeyID(EXTERNAL, nonce, psk_id=PSK_ID))
            case _:
                required = RequiredCapabilities(credentials=(1,) * self.number(2))
                return GroupContextExtensions((Extension(REQUIRED_CAPABILITIES, required.encode()),))

    def propose(self, who: Client) -> None:
        kind, public = self.number(5), bool(self.number(2))
        if kind > 3:
            signer = signature_key_pair() if self.number(2) else None
            proposed = who.group.propose_update(signer=signer, random=_fresh, public=public)
        else:
            proposed = who.group.propose(self.proposal(kind), random=_fresh, public=public)
        who.group = Group.restore(proposed.group.epoch_state(), proposed.group.message_state())
        self.epoch(who.group).proposals.append(proposed.message)
        self.post(who, proposed.message)

    def fitting(self, who: Client) -> tuple[bytes, ...]:
        """The proposals that one may commit: no Update of one's own, and the last one of each other member."""
        last = {
            sent.sender.index if isinstance(sent.proposal, Update) else reference: reference
            for reference, sent in who.group.proposals.items()
            if sent.own is None
        }
        return tuple(last.values())

    def commit(self, who: Client) -> None:
        signer = signature_key_pair()
        joiner = key_package(signer, suite=self.suite)
        kind = self.number(4)
        proposals: list[Proposal] = []
        if kind == 0 and len(who.group.members) < MOST:
            proposals = [Add(joiner.key_package)]
        elif kind == 1 and len(who.group.members) > 2:
            proposals = [self.proposal(self.number(4))]
        references = (tuple(who.group.proposals), self.fitting(who), ())[self.number(3)]
        try:
            staged = who.group.commit(
                proposals, references=references, psks=PSKS, public=bool(self.number(2)), random=_fresh
            )
        except MLSError:  # nobody removes themselves, nobody is removed twice
            return
        self.must_refuse(self.someone(), self.changed(staged.message))
        before, who.group = who.group, staged.current
        if not self.wins(before, staged.message, staged.group):
            self.post(who, staged.message)
            return
        who.past, who.group = staged.current.archive(), staged.group
        self.post(who, staged.message)
        if kind == 0 and proposals:
            assert staged.welcome is not None
            joined = Group.join(staged.welcome, joiner, signer=signer, authenticate=nobody, psks=PSKS).group
            assert joined.epoch_authenticator == staged.group.epoch_authenticator
            self.clients.append(Client(joined))

    def wins(self, before: Group, message: bytes, after: Group) -> bool:
        epoch = self.epoch(before)
        if epoch.winner:
            return False
        epoch.winner, epoch.after = message, after.epoch_authenticator
        return True

    def let_in(self, shower: Client) -> None:
        """Somebody lets themselves in, new or again, with the GroupInfo of a member who may be behind."""
        info = shower.group.group_info(with_tree=bool(self.number(2)))
        again = self.someone() if self.number(2) else None
        if again is None and len(self.here()) >= MOST:
            return
        replaces = again.group.own_index if again is not None else None
        signer = again.group.signer if again is not None else signature_key_pair()
        try:
            joined = Group.join_externally(
                info,
                signer=signer,
                credential=Credential.basic(b"let in"),
                capabilities=CAPABILITIES,
                authenticate=nobody,
                ratchet_tree=shower.group.tree.encode(),
                replaces=replaces,
                random=_fresh,
            )
        except MLSError:  # its leaf is another's by now, or its key is there twice
            return
        self.must_refuse(shower, self.changed(joined.message))
        if again is shower or not self.wins(shower.group, joined.message, joined.group):
            return
        if again is not None:
            again.gone = True
        newcomer = Client(joined.group)
        self.clients.append(newcomer)
        self.post(newcomer, joined.message)

    # What the network does.

    def shuffle(self, who: Client) -> None:
        if self.number(2):
            who.mail.reverse()
        else:
            del who.mail[: self.number(3)]

    def changed(self, message: bytes) -> bytes:
        at = (self.number(256) * 256 + self.number(256)) % len(message)
        return message[:at] + bytes((message[at] ^ 1 << self.number(8),)) + message[at + 1 :]

    def corrupt(self, who: Client) -> None:
        if who.mail:
            self.must_refuse(who, self.changed(who.mail[0][0]))

    def must_refuse(self, who: Client, message: bytes) -> None:
        before = state(who.group)
        try:
            result = who.group.process(message, authenticate=nobody, psks=PSKS, policy=POLICY)
        except MLSError:
            assert state(who.group) == before
            return
        # who is removed by an external Commit does not know the secret that its confirmation tag is made with
        removed = isinstance(result, CommitProcessed) and result.external and result.group is None
        assert removed, "a changed message was taken"

    def deliver(self, who: Client) -> None:
        mail, who.mail = who.mail, []
        for message, data in mail:
            if who.gone:
                return
            self.take(who, message, data)

    def take(self, who: Client, message: bytes, data: bytes | None) -> None:
        before = state(who.group)
        try:
            result = who.group.process(message, authenticate=nobody, psks=PSKS, policy=POLICY)
        except MLSError:
            assert state(who.group) == before
            self.late(who, message, data)
            return
        match result:
            case Application():
                assert result.data == data, "a message was changed"
                assert message not in who.opened, "a message was opened twice"
                who.opened.add(message)
                who.group = result.group
            case ProposalReceived():
                who.group = result.group
            case CommitProcessed():
                self.follow(who, message, result)

    def late(self, who: Client, message: bytes, data: bytes | None) -> None:
        if who.past is None:
            return
        try:
            late = who.past.unprotect(message)
        except MLSError:
            return
        if late.data is not None:
            assert late.data == data
            assert message not in who.opened, "a message was opened twice"
            who.opened.add(message)
        who.past = late.epoch_keys

    def follow(self, who: Client, message: bytes, result: CommitProcessed) -> None:
        epoch = self.epoch(who.group)
        if message != epoch.winner:  # it lost, and is not followed
            return
        if result.group is None:
            who.gone = True
            return
        assert result.group.epoch_authenticator == epoch.after, "members differ"
        who.past, who.group = who.group.archive(), result.group

    def catch_up(self, who: Client) -> None:
        """Follow all Commits that won, with their proposals; one's own are known already."""
        while not who.gone and (epoch := self.epochs.get(who.group.epoch)) is not None and epoch.winner:
            at = who.group.epoch
            for message in epoch.proposals:
                self.take(who, message, None)
            self.take(who, epoch.winner, None)
            assert who not in self.here() or who.group.epoch == at + 1, "a Commit that won was refused"


def play(suite: int, data: bytes) -> None:
    Play(data[:SCRIPT], suite).run()


# Twice a member proposes an Update, another one gets and commits it, and the first follows and says something.
_AN_UPDATE = bytes([1, 2, 4, 0, 1, 0, 0, 7, 0, 3, 3, 1, 0, 1, 5, 7, 3, 0, 1, 7, 1, 1, 9, 9, 9, 0, 0, 7])


def scripts() -> list[bytes]:
    return [
        bytes(range(0, 250, 5)),
        bytes([3, 0, 1, 7]) * 10,
        b"\x01\x04\x03" * 15,
        Random(3).randbytes(SCRIPT),
        _AN_UPDATE * 2,
    ]
