"""The legal grounds on which an operator may hand data to anybody: PROTOCOL.md section 6.16."""

from enum import StrEnum
from typing import Final

from restante_server.categories import Text


class Ground(StrEnum):
    """Why."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_DUTY = "legal-duty"
    EMERGENCY = "emergency"
    PUBLIC_INTEREST_NEWS = "public-interest-news"
    PUBLIC_DATA = "public-data"
    OTHER_LAW = "other-law"


GROUNDS: Final = {
    Ground.CONSENT: Text("your separate consent to it", "您对此的单独同意"),
    Ground.CONTRACT: Text("needed for a contract with you", "为订立或履行与您的合同所必需"),
    Ground.LEGAL_DUTY: Text("a legal duty", "履行法定职责或者法定义务"),
    Ground.EMERGENCY: Text(
        "a public health emergency, or the protection of life", "应对突发公共卫生事件，或者为保护生命"
    ),
    Ground.PUBLIC_INTEREST_NEWS: Text(
        "news for the public interest, within reason", "为公共利益实施新闻报道，在合理范围内"
    ),
    Ground.PUBLIC_DATA: Text("data that is already lawfully public", "已经合法公开的数据"),
    Ground.OTHER_LAW: Text("what other laws provide", "法律规定的其他情形"),
}
