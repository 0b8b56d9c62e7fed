import asyncio

from restante_server.transport.backlog import Backlog


async def test_readers_wait_while_it_is_full_and_go_on_in_order() -> None:
    backlog = Backlog(10)
    backlog.take(10)
    assert backlog.full
    order: list[int] = []

    async def reader(number: int, size: int) -> None:
        await backlog.room()
        backlog.take(size)
        order.append(number)

    tasks = [asyncio.ensure_future(reader(1, 10)), asyncio.ensure_future(reader(2, 1))]
    await asyncio.wait(tasks, timeout=0)
    assert order == []
    backlog.give_back(10)
    await asyncio.wait([tasks[0]])
    backlog.give_back(10)
    await asyncio.wait(tasks)
    assert order == [1, 2]
    assert backlog.used == 1


async def test_a_reader_that_has_gone_holds_up_nobody() -> None:
    backlog = Backlog(1)
    backlog.take(1)
    gone, stays = asyncio.ensure_future(backlog.room()), asyncio.ensure_future(backlog.room())
    await asyncio.wait([gone, stays], timeout=0)
    gone.cancel()
    await asyncio.wait([gone])
    backlog.give_back(1)
    await stays
