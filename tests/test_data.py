"""docs/data.md and the relay's database name the same columns."""

import re
from pathlib import Path

import apsw

from support.people import people, together
from support.relay import relay_in_process

PAGE = Path(__file__).parent.parent / "docs" / "data.md"


async def test_every_stored_column_is_declared_and_every_declared_one_is_there(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        room, _ = await together(alice, bob)
        await room.send("used")
        await bob.reads("used")
    db = apsw.Connection(str(tmp_path / "relay" / "relay.db"))
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
    stored = {
        f"{table}.{column}"
        for table in tables
        if not table.startswith("sqlite_")
        for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))
    }
    db.close()
    assert set(re.findall(r"`(\w+\.\w+)`", PAGE.read_text())) - {"relay.key"} == stored
