import pytest

from restante_server import policy, purposes
from restante_server.categories import LANGUAGES, Text
from restante_server.config import SettingError
from restante_server.policy import Operator
from restante_server.processors import ROLES, Processor, Role
from restante_server.purposes import PURPOSES, About, Purpose
from restante_server.services.bulletin import MAX_CONTENT_BYTES


def test_every_purpose_is_told_in_every_language() -> None:
    assert set(PURPOSES) == set(Purpose)
    for about in PURPOSES.values():
        for text in (about.title, about.what, about.refusing):
            assert all(text[language] for language in LANGUAGES)


def test_another_text_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {purpose: purposes.version(purpose) for purpose in Purpose}
    assert len(set(before.values())) == len(Purpose)
    about = PURPOSES[Purpose.PUSH]
    changed = About(about.title, about.what, Text(about.refusing.en, about.refusing.zh + "。"), about.at_relay)
    monkeypatch.setitem(PURPOSES, Purpose.PUSH, changed)
    assert {purpose for purpose in Purpose if purposes.version(purpose) != before[purpose]} == {Purpose.PUSH}


SENDER = Processor(Role.SMS, "Example Telephony", "Iceland", "agreement of 2026-01-02")


@pytest.mark.parametrize(
    "other",
    [
        (),
        (Processor(Role.SMS, "Other Telephony", SENDER.country, SENDER.agreement),),
        (Processor(Role.SMS, SENDER.name, "Ireland", SENDER.agreement),),
        (Processor(Role.SMS, SENDER.name, SENDER.country, "agreement of 2027-01-02"),),
        (SENDER, Processor(Role.SMS, "Other Telephony", "Iceland", "agreement of 2026-01-02")),
    ],
)
def test_another_receiver_is_another_version(other: tuple[Processor, ...]) -> None:
    assert purposes.version(Purpose.NUMBER, other) != purposes.version(Purpose.NUMBER, [SENDER])
    unconcerned = set(Purpose) - {Purpose.NUMBER}
    assert all(purposes.version(each, other) == purposes.version(each, [SENDER]) for each in unconcerned)


def test_the_order_of_receivers_and_those_of_the_service_itself_change_nothing() -> None:
    both = (SENDER, Processor(Role.SMS, "Other Telephony", "Iceland", "agreement of 2026-01-02"))
    assert purposes.version(Purpose.NUMBER, both) == purposes.version(Purpose.NUMBER, both[::-1])
    host = Processor(Role.HOSTING, "Example Hosting", "Iceland", "agreement of 2026-01-03")
    assert purposes.version(Purpose.NUMBER, [SENDER, host]) == purposes.version(Purpose.NUMBER, [SENDER])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_purpose_says_who_receives_what_for_it(language: str) -> None:
    what = purposes.said_in(Purpose.NUMBER, language, [SENDER])["what"]
    for part in (SENDER.name, SENDER.country, SENDER.agreement, ROLES[Role.SMS].data[language]):
        assert part in what
    assert SENDER.name not in purposes.said_in(Purpose.HANDLE, language, [SENDER])["what"]
    document = policy.document(Operator(), [SENDER], [Purpose.NUMBER])
    assert what in document["languages"][language]["text"]
    assert document["purposes"] == [purposes.entry(Purpose.NUMBER, [SENDER])]


def test_names_are_of_purposes() -> None:
    assert purposes.parse(()) == ()
    assert purposes.parse(("news", "handle", "news")) == (Purpose.HANDLE, Purpose.NEWS)
    with pytest.raises(SettingError, match="handle, number, push, diagnostics, news"):
        purposes.parse(("handle", "advertising"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_policy_says_what_is_offered_and_that_nothing_is(language: str) -> None:
    everything = policy.document(Operator("Example Post"), (), tuple(Purpose))
    nothing = policy.document(Operator("Example Post"))
    assert policy.version(everything) != policy.version(nothing)
    assert nothing["purposes"] == []
    assert [each["name"] for each in everything["purposes"]] == list(Purpose)
    for purpose in Purpose:
        for text in purposes.said_in(purpose, language).values():
            assert text in everything["languages"][language]["text"]
            assert text not in nothing["languages"][language]["text"]


def test_the_largest_policy_fits_its_slot() -> None:
    largest = policy.document(Operator("x" * 100, "y" * 200), (), tuple(Purpose))
    assert len(policy.encode(largest)) < MAX_CONTENT_BYTES
