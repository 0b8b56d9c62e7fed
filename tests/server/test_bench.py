import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import web
from typer.testing import CliRunner

from restante_server import bench
from restante_server.__main__ import cli
from restante_server.config import BenchLimits
from support.relay import relay_in_process
from support.waiting import until

LIMITS = BenchLimits(seconds=3, mailboxes=3, deposits=40)


async def test_a_running_relay_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, bench=LIMITS, admission="closed") as relay:
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["bench", relay.url])
        assert result.exit_code == 0, result.output
        head, columns, *rows = result.stdout.splitlines()
        assert head == "level=power, 256 B to each of 3 mailboxes, which the relay deletes now"
        assert columns.split()[-1] == "CPU"
        row = r" +(1|8|64) +[\d,]+ +[\d,]+ +[\d.]+ +[\d.]+  \d+%( \(it was measured, not the relay\))?"
        assert [found[1] for line in rows if (found := re.fullmatch(row, line))] == ["1", "8", "64"]
        assert "measuring" in result.stderr

        async def deleted() -> bool:
            return not (await relay.store.totals()).mailboxes

        await until(deleted)
        again = await asyncio.to_thread(CliRunner().invoke, cli, ["bench", relay.url])
        assert again.exit_code == 1
        assert "try again in" in again.output


async def test_a_relay_whose_operator_did_not_allow_it_refuses(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        with pytest.raises(bench.Refusal, match="does not allow it"):
            await asyncio.to_thread(bench.run, relay.url)


async def test_no_relay_at_all() -> None:
    with pytest.raises(bench.Refusal, match="no relay answers there"):
        await asyncio.to_thread(bench.run, "http://127.0.0.1:1")


async def test_what_is_no_relay(tmp_path: Path) -> None:
    async def limits(_: web.Request) -> web.Response:
        return web.Response(text='{"seconds": "many"}')

    app = web.Application()
    app.add_routes([web.get("/v1/bench", limits)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    with pytest.raises(bench.Refusal, match="no relay answers there"):
        await asyncio.to_thread(bench.run, f"http://{host}:{port}")
    await runner.cleanup()


async def test_a_relay_that_stops_taking_deposits_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SHARES", (0.5, 0.5, 1.0))  # more than there are
    async with relay_in_process(tmp_path, bench=LIMITS) as relay:
        with pytest.raises(bench.Refusal, match="the relay refuses: full"):
            await asyncio.to_thread(bench.run, relay.url)


def test_a_row_says_when_the_client_was_measured() -> None:
    row = bench.Row(inflight=8, accepted=10, seconds=2.0, own=1.95, waits=[0.001] * 40)
    assert row.cells() == ("8", "20", "5", "1.00", "1.00", "98% (it was measured, not the relay)")
