from pathlib import Path

import aiohttp

from support.crowd import crowded
from support.relay import relay_in_process


async def test_a_report_is_counted_and_its_answer_says_nothing_more(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path, purposes=("diagnostics",)) as relay,
        aiohttp.ClientSession() as session,
        session.post(relay.url + "/v1/diagnostics/use/2") as answer,
    ):
        assert answer.status == 503, "too few mailboxes"
    async with crowded(tmp_path) as relay, aiohttp.ClientSession() as session:
        url = relay.url + "/v1/diagnostics"

        async def post(report: str) -> int:
            async with session.post(f"{url}/{report}") as answer:
                assert await answer.read() == b""
                assert set(answer.headers) <= {"Date", "Server", "Content-Length", "Content-Type", "Connection"}
                return answer.status

        assert [await post(report) for report in ("use/2", "use/3", "name/0")] == [204, 404, 404]
        await relay.diagnostics.flush()
        async with session.get(url) as answer:
            shown = await answer.json()
            assert "Set-Cookie" not in answer.headers
        assert shown["open"]
        assert shown["reported"]["use"] == [0, 0, 1]
    async with (
        relay_in_process(tmp_path) as relay,
        aiohttp.ClientSession() as session,
        session.post(relay.url + "/v1/diagnostics/use/2") as answer,
    ):
        assert answer.status == 503, "not offered"
