"""The privacy policy: from the inventory's categories and the operator's name; equal content gives equal bytes.

A document is plain data: per language a title and sections, each with paragraphs and with entries of labelled facts,
and the same as plain text. It is published in the relay's own slots (``services.bulletin``); pages and the SDK show it.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from restante_crypto import primitives
from restante_server import policy_texts as texts
from restante_server import purposes
from restante_server.categories import LANGUAGES, Category, Text
from restante_server.grounds import GROUNDS
from restante_server.processors import ROLES, Processor
from restante_server.purposes import Purpose

FORMAT: Final = 1
_VERSION_BYTES: Final = 8  # of a hash: names a version, and is short enough to read out
_FACTS: Final = ("what", "purpose", "basis", "readers", "kept", "erased")


@dataclass(frozen=True, slots=True)
class Operator:
    """Who is responsible: name and how to reach them; both may be empty."""

    name: str = ""
    contact: str = ""


def document(
    operator: Operator, processors: Sequence[Processor] = (), offered: Sequence[Purpose] = ()
) -> dict[str, Any]:
    """Return the policy of a relay: JSON data, without time and number."""
    return {
        "format": FORMAT,
        "operator": {"name": operator.name, "contact": operator.contact},
        "languages": {language: _in(language, operator, processors, offered) for language in LANGUAGES},
        "purposes": [purposes.entry(purpose, processors) for purpose in offered],
    }


def encode(content: object) -> bytes:
    """Return the one encoding of JSON data."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def version(content: dict[str, Any]) -> str:
    """Return the name of a document's content: 16 hexadecimal digits."""
    return primitives.blake2b(encode(content), size=_VERSION_BYTES, person=b"restante policy").hex()


def changes(old: str, new: str) -> list[tuple[str, str]]:
    """Return what was removed ("-") and added ("+") between two plain texts, paragraph by paragraph, in order."""
    before, after = _paragraphs(old), _paragraphs(new)
    changed: list[tuple[str, str]] = []
    for _, start, stop, begin, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if before[start:stop] != after[begin:end]:
            changed += [("-", line) for line in before[start:stop]] + [("+", line) for line in after[begin:end]]
    return changed


def _paragraphs(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def _in(
    language: str, operator: Operator, processors: Sequence[Processor], offered: Sequence[Purpose]
) -> dict[str, Any]:
    def say(text: Text, **values: str) -> str:
        return text[language].format(**values) if values else text[language]

    if operator.name:
        contact = operator.contact or say(texts.NO_CONTACT)
        responsible = say(texts.OPERATOR, name=operator.name, contact=contact)
    else:
        responsible = say(texts.NAMELESS)
    grounds = ("；" if language == "zh" else "; ").join(text[language] for text in GROUNDS.values())
    sections = [
        _section(say(texts.HEADINGS["promises"]), [], [_promise(promise, language) for promise in texts.PROMISES]),
        _section(say(texts.HEADINGS["data"]), [], [_facts(category, language) for category in Category]),
        _section(say(texts.HEADINGS["network"]), [say(texts.NETWORK)]),
        _section(say(texts.HEADINGS["rights"]), [say(texts.RIGHTS)]),
        _section(
            say(texts.HEADINGS["optional"]),
            [say(texts.OPTIONAL)] if offered else [say(texts.NOTHING_OPTIONAL)],
            [_purpose(purpose, language, processors) for purpose in offered],
        ),
        _section(
            say(texts.HEADINGS["third"]), [] if processors else [say(texts.NO_THIRD)], _processors(processors, language)
        ),
        _section(say(texts.HEADINGS["disclosure"]), [say(texts.DISCLOSURE, grounds=grounds)]),
        _section(say(texts.HEADINGS["limits"]), [say(texts.LIMITS)]),
        _section(say(texts.HEADINGS["changes"]), [say(texts.CHANGES)]),
    ]
    title = say(texts.TITLE)
    return {
        "title": title,
        "operator": responsible,
        "sections": sections,
        "text": "\n\n".join(_plain(title, responsible, sections)) + "\n",
    }


def _section(title: str, paragraphs: list[str], entries: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"title": title, "paragraphs": paragraphs, "entries": entries or []}


def _promise(promise: texts.Promise, language: str) -> dict[str, Any]:
    return {"title": promise.title[language], "paragraphs": [promise.text[language]], "facts": []}


def _facts(category: Category, language: str) -> dict[str, Any]:
    about = category.value
    facts = [[texts.HEADINGS[name][language], getattr(about, name)[language]] for name in _FACTS]
    return {"title": about.title[language], "paragraphs": [], "facts": facts}


def _purpose(purpose: Purpose, language: str, processors: Sequence[Processor]) -> dict[str, Any]:
    said = purposes.said_in(purpose, language, processors)
    facts = [
        [texts.HEADINGS["granting"][language], said["what"]],
        [texts.HEADINGS["refusing"][language], said["refusing"]],
        [texts.HEADINGS["consent"][language], texts.CONSENT_KEPT[purposes.PURPOSES[purpose].at_relay][language]],
    ]
    return {"title": said["title"], "paragraphs": [], "facts": facts}


def _processors(processors: Sequence[Processor], language: str) -> list[dict[str, Any]]:
    def entry(processor: Processor) -> dict[str, Any]:
        about = ROLES[processor.role]
        facts = {
            "purpose": about.purpose[language],
            "data": about.data[language],
            "country": processor.country,
            "agreement": processor.agreement,
        }
        if processor.hosts:
            facts["hosts"] = " ".join(map(str, processor.hosts))
        named = [[texts.PROCESSOR[name][language], value] for name, value in facts.items()]
        return {"title": processor.name, "paragraphs": [], "facts": named}

    return [entry(processor) for processor in sorted(processors, key=lambda each: each.role)]


def _plain(title: str, responsible: str, sections: list[dict[str, Any]]) -> Iterator[str]:
    yield title
    yield responsible
    for section in sections:
        yield f"{section['title']}\n" + "=" * (2 * len(section["title"]))
        yield from section["paragraphs"]
        for entry in section["entries"]:
            yield "\n".join(
                [f"* {entry['title']}", *entry["paragraphs"], *(f"  {name}: {value}" for name, value in entry["facts"])]
            )
