"""The inventory, docs/data.md and relays that were used say the same: nothing more, nothing less, nothing longer."""

from pathlib import Path

import pytest

from restante_server import inventory
from restante_server.categories import Category, incomplete
from restante_server.inventory import Kind
from support import scenario
from support.scenario import Seen, differences

PAGE = Path(__file__).parent.parent / "docs" / "data.md"


def test_all_that_is_stored_and_emitted_is_declared_and_all_that_is_declared_is_there(seen: Seen) -> None:
    assert scenario.undeclared(seen.found) == set()
    assert differences(seen.compared) == set()
    assert seen.empty == frozenset(), "the columns of a table that nothing was in"


def test_nothing_outlives_its_lifetime(seen: Seen) -> None:
    for seconds, left in seen.left.items():
        late = {
            (item.kind, item.name)
            for item in inventory.ITEMS
            if item.lifetime is not None and item.lifetime <= seconds and scenario.fits(item, left)
        }
        assert late == set(), f"after {seconds} seconds"


def test_what_has_no_lifetime_stays_until_its_owner_ends_it(seen: Seen) -> None:
    first, *_, last = seen.left.values()
    assert first[Kind.SLOT] > {"invite", "profile", "consent", "tombstone", "policy", "number texts", "number queries"}
    assert last[Kind.SLOT] == last[Kind.BLOB] == frozenset()
    assert last[Kind.COLUMN] >= {"mailbox.id"} if seen.records is None else last[Kind.FIELD] >= {"{b}:mailbox.id"}


# The page.


def test_the_page_is_made_from_the_inventory() -> None:
    assert PAGE.read_text() == inventory.page(), "python -m restante_server.inventory > docs/data.md"


@pytest.mark.parametrize("category", Category, ids=lambda category: category.name)
def test_a_category_has_items_and_is_told_in_every_language(category: Category) -> None:
    assert any(item.category is category for item in inventory.ITEMS)
    assert incomplete(category) == []
