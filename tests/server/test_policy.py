import pytest

from restante_server import policy, policy_texts
from restante_server.categories import LANGUAGES, Category, Text
from restante_server.policy import Operator

CONTENT = policy.document(Operator("Example Post", "post@example.org"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_names_the_operator_each_promise_and_each_kind_of_data(language: str) -> None:
    text = CONTENT["languages"][language]["text"]
    assert "Example Post" in text
    assert "post@example.org" in text
    for promise in policy_texts.PROMISES:
        assert promise.title[language] in text
        assert promise.text[language] in text
    for category in Category:
        for part in ("title", "what", "purpose", "basis", "readers", "kept", "erased"):
            assert getattr(category.value, part)[language] in text


def test_every_text_is_in_every_language() -> None:
    texts = [value for value in vars(policy_texts).values() if isinstance(value, Text)]
    texts += policy_texts.HEADINGS.values()
    texts += [part for promise in policy_texts.PROMISES for part in (promise.title, promise.text)]
    assert len(texts) > 20
    for text in texts:
        assert text.en
        assert any("\u4e00" <= sign <= "\u9fff" for sign in text.zh), text


def test_without_a_name_it_says_so() -> None:
    text = policy.document(Operator())["languages"]["en"]["text"]
    assert policy_texts.NAMELESS.en in text
    assert "not given" in policy.document(Operator("Example Post"))["languages"]["en"]["text"]


def test_equal_content_is_the_same_version_and_other_content_another() -> None:
    assert policy.version(CONTENT) == policy.version(policy.document(Operator("Example Post", "post@example.org")))
    assert policy.version(CONTENT) != policy.version(policy.document(Operator("Another Post", "post@example.org")))


def test_the_difference_is_readable() -> None:
    assert policy.changes("kept\n\nold\n", "kept\n\nnew\n\nmore\n") == [("-", "old"), ("+", "new"), ("+", "more")]
    assert policy.changes("same\n", "same\n") == []
    assert policy.changes("a\nb\nc\n", "A\nb\nd\n") == [("-", "a"), ("+", "A"), ("-", "c"), ("+", "d")]
