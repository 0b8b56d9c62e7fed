"""What invites lead to, through the public API and a real relay."""

from pathlib import Path

import pytest

from restante import InviteError
from restante.claims import claim
from restante.engine.mailroom import Mailroom
from restante.invites import Invite, open_manifest
from restante_crypto.suites import SUITES, XWING
from restante_protocol import frames, limits
from restante_server.clock import system_clock
from support.people import people, person
from support.relay import Peer, relay_in_process


async def test_invites_that_lead_nowhere(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        relay_in_process(tmp_path / "other") as other,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
        person(tmp_path, "carol", other.url) as carol,
    ):
        foreign, own, good = (
            await carol.client.invite(),
            await alice.client.invite(),
            await bob.client.invite(),
        )
        for wrong in ("restante:", "hello", good[:-8], foreign, own):
            with pytest.raises(InviteError):
                await alice.client.start_conversation(wrong)
        with pytest.raises(InviteError):
            await alice.client.start_conversation([])


async def use_up(sender: Peer, text: str) -> None:
    """Claim more often than an invite's address gives packages, as somebody who has the invite."""
    invite = Invite.parse(text)
    slot = await sender.ask(lambda n: frames.SlotGet(n, invite.slot))
    (device,) = open_manifest(slot.body, invite, now=system_clock() // 1000).devices
    suite, address = device.pools[0]
    answer = await sender.ask(lambda n: frames.Claim(n, suite, [address] * (limits.ADDRESS_CLAIMS + 1)))
    last = answer.prekeys[-1]
    assert (last.code, last.number) == (0, 0), "the key that all share"


async def test_who_uses_an_invite_up_is_noticed_and_others_come_through(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        person(tmp_path, "alice", relay.url) as alice,
        await Peer.connect(relay.url) as sender,
    ):
        async with person(tmp_path, "bob", relay.url) as bob:
            first, second = [await bob.client.invite() for _ in range(2)]
            await bob.client.drained()
            await use_up(sender, first)
            await bob.until(lambda: bool(bob.overused))
            assert [event.invite for event in bob.overused] == [first]
        await use_up(sender, second)
        async with person(tmp_path, "bob", relay.url) as bob:  # he was away
            await bob.until(lambda: second in {event.invite for event in bob.overused})
            room = await alice.client.start_conversation([first])
            await bob.room()
            await room.send("with the key that all share")
            await bob.reads("with the key that all share")


async def test_an_empty_hybrid_pool_never_leads_to_another_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the relay has or has not at hand decides nothing; the signed manifests do."""
    chores = Mailroom._prekey_chores
    monkeypatch.setattr(Mailroom, "_prekey_chores", lambda self, suite: [] if suite == XWING else chores(self, suite))
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        invite, other = await bob.client.invite(), await carol.client.invite()
        with pytest.raises(InviteError, match="no KeyPackage at the relay"):
            await alice.client.start_conversation(invite)
        assert alice.client.conversations() == []
        assert bob.rooms.empty()
        monkeypatch.undo()
        for reader in (bob, carol):
            await reader.client.invite()  # now the pools are filled
        room = await alice.client.start_conversation(invite)
        assert room.suite == SUITES[XWING].name
        for _ in range(limits.ADDRESS_CLAIMS + 1):  # until that pool gives nothing but its last resort
            await claim(alice.client._engine, alice.client._driver, [other])
        await room.add(other)
        theirs = await carol.room()
        assert theirs.suite == room.suite
        assert len(room.members) == 3
