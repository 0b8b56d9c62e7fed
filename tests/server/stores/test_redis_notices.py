"""What nodes tell each other of what they commit: it arrives whole and in order, or the store is read."""

import struct

from restante_protocol import ids
from restante_server.stores.contract import Delivery
from restante_server.stores.redis_notices import TOLD_BYTES, WAKE, Notices, committed_messages
from support.stores import Watched, mailbox

ENTRIES = [(bytes(ids.MESSAGE_ID_BYTES), b"one", None), (b"\1" * ids.MESSAGE_ID_BYTES, b"two", b"fence")]
HERE, THERE = b"node 1 .", b"node 2 ."


def serving(*owned: tuple[bytes, int]) -> tuple[Notices, Watched]:
    """Return a node that serves mailboxes, told of everything up to a sequence."""
    notices, watched = Notices(), Watched()
    notices.watch(watched)
    for each, last in owned:
        notices.own(each, b"token".ljust(8, b"\0"), last)
    return notices, watched


def message(*recipients: tuple[int, int], before: dict[int, int]) -> bytes:
    """Return what is told of one delivery of both entries to (number of the mailbox, sequence)."""
    count = len(ENTRIES)
    delivery = Delivery(ENTRIES, [(mailbox(number), first, count) for number, first in recipients])
    changes = [(mailbox(number), before[number], first + count - 1) for number, first in recipients]
    nodes = dict.fromkeys([mailbox(number) for number, _ in recipients], HERE)
    return committed_messages([delivery], changes, nodes)[HERE]


def test_entries_go_to_whom_they_were_committed_for() -> None:
    notices, watched = serving((mailbox(1), 5), (mailbox(2), 7))
    notices.heard(message((1, 10), (2, 20), before={1: 5, 2: 7}))
    assert watched.told == [Delivery(ENTRIES, [(mailbox(1), 10, 2), (mailbox(2), 20, 2)])]
    assert watched.woken == []


def test_several_deliveries_to_one_mailbox_are_one_after_another() -> None:
    notices, watched = serving((mailbox(1), 5))
    deliveries = [Delivery(ENTRIES, [(mailbox(1), first, 2)]) for first in (10, 12)]
    notices.heard(committed_messages(deliveries, [(mailbox(1), 5, 13)], {mailbox(1): HERE})[HERE])
    notices.heard(message((1, 14), before={1: 13}))
    assert [first for delivery in watched.told for _, first, _ in delivery.recipients] == [10, 12, 14]
    assert watched.woken == []


def test_after_a_message_that_was_lost_the_store_is_read() -> None:
    notices, watched = serving((mailbox(1), 5), (mailbox(2), 7))
    notices.heard(message((1, 12), (2, 20), before={1: 11, 2: 7}))
    assert watched.woken == [mailbox(1)]


def test_what_comes_late_wakes_nobody_again() -> None:
    notices, watched = serving((mailbox(1), 5))
    notices.heard(message((1, 12), before={1: 11}))
    notices.heard(message((1, 10), before={1: 5}))
    notices.heard(message((1, 14), before={1: 13}))
    assert watched.woken == [mailbox(1)]
    assert [first for delivery in watched.told for _, first, _ in delivery.recipients] == [12, 14]


def test_who_was_told_before_another_one_s_entry_reads_what_comes_after_it() -> None:
    """One pipeline may be two script calls, between which another node stored something."""
    notices, watched = serving((mailbox(1), 5))
    deliveries = [Delivery(ENTRIES[:1], [(mailbox(1), first, 1)]) for first in (10, 12)]
    changes = [(mailbox(1), 5, 10), (mailbox(1), 11, 12)]
    notices.heard(committed_messages(deliveries, changes, {mailbox(1): HERE})[HERE])
    assert watched.woken == [mailbox(1)]


def test_a_look_wakes_who_was_not_told_and_reminds_who_has_acknowledged_more() -> None:
    notices, watched = serving((mailbox(1), 5), (mailbox(2), 5))
    notices.looked(mailbox(1), struct.pack(">8s8sQQ", HERE, b"token", 5, 5))
    assert (watched.woken, watched.reminded) == ([], [])
    notices.looked(mailbox(2), struct.pack(">8s8sQQ", HERE, b"token", 7, 3))
    assert (watched.woken, watched.reminded) == ([mailbox(2)], [(mailbox(2), 3)])


def test_each_node_is_told_only_of_its_mailboxes() -> None:
    delivery = Delivery(ENTRIES, [(mailbox(number), 10 * number, 2) for number in (1, 2, 3)])
    changes = [(mailbox(number), number, 10 * number + 1) for number in (1, 2, 3)]
    messages = committed_messages([delivery], changes, {mailbox(1): HERE, mailbox(3): THERE})
    assert sorted(messages) == [HERE, THERE]
    notices, watched = serving((mailbox(1), 1), (mailbox(2), 2), (mailbox(3), 3))
    notices.heard(messages[THERE])
    assert watched.told == [Delivery(ENTRIES, [(mailbox(3), 30, 2)])]


def test_a_mailbox_that_is_served_no_more_is_left_out() -> None:
    notices, watched = serving()
    notices.heard(message((1, 10), before={1: 5}))
    assert watched.told == [Delivery(ENTRIES, [])]
    assert watched.woken == []


def test_of_more_than_a_message_may_carry_the_sequence_is_told() -> None:
    big = [(bytes(ids.MESSAGE_ID_BYTES), bytes(TOLD_BYTES // 2), None)]
    deliveries = [Delivery(big, [(mailbox(1), first, 1), (mailbox(2), first, 1)]) for first in (10, 11)]
    changes = [(mailbox(number), 5, 11) for number in (1, 2)]
    messages = committed_messages(deliveries, changes, {mailbox(1): HERE, mailbox(2): HERE})
    assert messages[HERE].startswith(WAKE)
    notices, watched = serving((mailbox(1), 5), (mailbox(2), 11))
    notices.heard(messages[HERE])
    assert watched.told == []
    assert watched.woken == [mailbox(1)], "mailbox 2 has all of it"


def test_recipients_count_to_what_a_message_may_carry() -> None:
    """Deposits that are no group have theirs each."""
    everybody = [mailbox(number) for number in range(1000)]
    deliveries = [Delivery(ENTRIES[:1], [(each, first, 1) for each in everybody]) for first in range(10, 20)]
    changes = [(each, 5, 19) for each in everybody]
    messages = committed_messages(deliveries, changes, dict.fromkeys(everybody, HERE))
    assert messages[HERE].startswith(WAKE)
    assert len(messages[HERE]) < TOLD_BYTES
