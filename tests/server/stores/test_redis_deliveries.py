from restante_server.stores.contract import Delivery
from restante_server.stores.redis_deliveries import MOST, together
from support.stores import deposit, mailbox

A, B = mailbox(1), mailbox(2)


def entry(number: int) -> tuple[bytes, bytes, bytes | None]:
    item = deposit(number, [])
    return item.message_id, item.body, item.fence


def test_neighbours_to_the_same_mailboxes_are_one() -> None:
    told = together(
        [
            (deposit(1, []), [(A, 5), (B, 9)]),
            (deposit(2, []), [(A, 6), (B, 10)]),
            (deposit(3, []), [(A, 7)]),  # B was full
            (deposit(4, []), [(A, 8)]),
            (deposit(5, []), [(A, 20)]),  # a later millisecond
            (deposit(6, []), []),
        ]
    )
    assert told == [
        Delivery([entry(1), entry(2)], [(A, 5, 2), (B, 9, 2)]),
        Delivery([entry(3), entry(4)], [(A, 7, 2)]),
        Delivery([entry(5)], [(A, 20, 1)]),
        Delivery([entry(6)], []),
    ]


def test_a_mailbox_that_is_there_twice_stays_in_order() -> None:
    told = together([(deposit(1, []), [(A, 1), (A, 2)]), (deposit(2, []), [(A, 3), (A, 4)])])
    assert [each.recipients for each in told] == [[(A, 1, 1), (A, 2, 1)], [(A, 3, 1), (A, 4, 1)]]


def test_a_delivery_has_a_bound() -> None:
    told = together((deposit(number, []), [(A, number)]) for number in range(1, MOST + 2))
    assert [each.recipients for each in told] == [[(A, 1, MOST)], [(A, MOST + 1, 1)]]


def test_nothing_is_nothing() -> None:
    assert together([]) == []
