"""How often data was disclosed to others, and on which grounds: /transparency. PROTOCOL.md section 6.16."""

from typing import Any, Final

from aiohttp import web

from restante_crypto import proofs
from restante_server import policy, policy_texts
from restante_server.categories import Text
from restante_server.grounds import GROUNDS
from restante_server.services.bulletin import Bulletin
from restante_server.services.ledger import HEAD
from restante_server.transport.pages import HEADERS, guarded, html, language_of, languages, link

_TITLE: Final = Text("Disclosures to others", "向他人披露的情况")
_LEAD: Final = Text(
    "How often the operator of this relay has handed data to others, by legal ground. Whoever was concerned is told in "
    "their app, at once or as soon as the law allows it.",
    "本中继的运营者按法律依据向他人提供数据的次数。相关人员会立即或在法律允许时尽快在其应用中得到通知。",
)
_COUNTS: Final = Text("Counts", "次数")
_HEAD: Final = Text("Log", "日志")
_CHAIN: Final = Text(
    "Every disclosure is an entry of a log, which names the hash of the entry before. Whoever keeps the hash below "
    "will notice if an entry is changed or taken away. The same is there as JSON, signed by the relay.",
    "每次披露都是日志中的一条记录，并包含前一条记录的哈希值。保存下面的哈希值即可发现记录被更改或删除。"
    "同样的内容以 JSON 格式提供，并由中继签名。",
)
_ALL: Final = Text("all together", "总计")
_NEWEST: Final = Text("hash of the newest entry", "最新记录的哈希值")
_LIMIT: Final = Text(
    "This log is kept by the software: it cannot know what the machine's owner does without it.",
    "本日志由软件记录：软件无法得知机器所有者在软件之外的行为。",
)


def routes(published: Bulletin) -> list[web.RouteDef]:
    """Return what an aiohttp application needs."""

    async def show(request: web.Request) -> web.StreamResponse:
        version, signature, summary = await published.signed(HEAD)
        if summary is None:
            raise web.HTTPNotFound(text="no log of disclosures\n", headers=HEADERS)
        if request.match_info["form"] == ".json":
            slot = proofs.public_slot_id(published.relay_key, HEAD)
            shown = {**summary, "slot": slot.hex(), "version": version, "signature": signature.hex()}
            return web.Response(body=policy.encode(shown), content_type="application/json", headers=HEADERS)
        language = language_of(request)
        counts, head = _facts(summary, language)
        if request.match_info["form"] == ".txt":
            lines = [_TITLE[language], _LEAD[language], *(f"{name}: {value}" for name, value in [*counts, *head])]
            return web.Response(text="\n".join([*lines, _LIMIT[language]]) + "\n", headers=HEADERS)
        return html(
            language,
            _TITLE[language],
            lead=[_LEAD[language], _LIMIT[language]],
            sections=[_section(_COUNTS[language], "", counts), _section(_HEAD[language], _CHAIN[language], head)],
            links=[*languages(request.path), link(f"/privacy?lang={language}", policy_texts.TITLE[language])],
        )

    return [web.get(r"/transparency{form:(\.txt|\.json)?}", guarded(show))]


def _facts(summary: dict[str, Any], language: str) -> tuple[list[list[str]], list[list[str]]]:
    counts = [[text[language], str(summary["grounds"].get(ground, 0))] for ground, text in GROUNDS.items()]
    return [*counts, [_ALL[language], str(summary["count"])]], [[_NEWEST[language], summary["head"]]]


def _section(title: str, paragraph: str, facts: list[list[str]]) -> dict[str, Any]:
    entry = {"title": title, "paragraphs": [], "facts": facts}
    return {"title": title, "paragraphs": [paragraph] if paragraph else [], "entries": [entry]}
