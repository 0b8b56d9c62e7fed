import asyncio

from restante_server.transport.messages import Flusher, binary_message, close_message, pong_message


def test_lengths_are_written_as_the_rfc_says() -> None:
    assert binary_message(b"abc") == b"\x82\x03abc"
    assert binary_message(bytes(125))[:2] == b"\x82\x7d"
    assert binary_message(bytes(126))[:4] == b"\x82\x7e\x00\x7e"
    assert binary_message(bytes(65535))[:4] == b"\x82\x7e\xff\xff"
    assert binary_message(bytes(65536))[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"


def test_close_messages_carry_their_code() -> None:
    assert close_message(1001) == b"\x88\x02\x03\xe9"


def test_pongs_carry_what_the_ping_had() -> None:
    assert pong_message(b"abc") == b"\x8a\x03abc"


class _Counted:
    def __init__(self, order: list[int], number: int) -> None:
        self._order = order
        self._number = number

    def flush(self) -> None:
        self._order.append(self._number)


async def test_everything_is_flushed_at_the_end_of_the_tick_in_order() -> None:
    flusher, order = Flusher(), list[int]()
    for number in range(3):
        flusher.add(_Counted(order, number))
    assert order == []
    await asyncio.get_running_loop().run_in_executor(None, int)
    assert order == [0, 1, 2]
    flusher.add(_Counted(order, 3))
    await asyncio.get_running_loop().run_in_executor(None, int)
    assert order == [0, 1, 2, 3]
