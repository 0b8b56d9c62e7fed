"""Optional purposes: what a relay may do beyond the service itself, each only for those who granted it.

Each is separate, off until it is granted, and withdrawn as easily. What its text says has a version, made of the text:
who granted another version has granted nothing. Who receives data for it is in the text, so that another receiver, or
another agreement with one, is another version. PROTOCOL.md section 6.14. Consents are kept in ``services.consents``;
those for purposes of which the relay holds nothing by mailbox stay in the client's file: nothing ties them to one.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from restante_crypto import primitives
from restante_protocol import ids
from restante_server.categories import LANGUAGES, Text
from restante_server.config import SettingError
from restante_server.processors import ROLES, Processor, Role

_PERSON: Final = b"restante purpose"


class Purpose(StrEnum):
    """What a relay may offer."""

    HANDLE = "handle"  # the directory by handle
    NUMBER = "number"  # discovery by telephone number
    PUSH = "push"  # waking a device through a push service
    DIAGNOSTICS = "diagnostics"  # coarse, randomised counts
    NEWS = "news"  # announcements beyond the necessary


@dataclass(frozen=True, slots=True)
class About:
    """What a purpose says of itself.

    Attributes:
        title: its name.
        what: what happens once it is granted.
        refusing: what it means not to grant it.
        at_relay: the relay holds data of a mailbox for it, and so the consent too.
        handed_to: the role of those who receive data for it, if anybody does.
    """

    title: Text
    what: Text
    refusing: Text
    at_relay: bool
    handed_to: Role | None = None


PURPOSES: Final = {
    Purpose.HANDLE: About(
        Text("Being found by a handle", "通过用户名被找到"),
        Text(
            "A handle that you choose is stored as a hash under a secret of the relay, with an encrypted invite. "
            "Whoever knows the exact handle can write to you. A stolen database does not give the handle away; the "
            "operator, who has the secret, could try handles.",
            "您选择的用户名以中继密钥下的哈希值存储，并附带一份加密的邀请。知道确切用户名的人可以写信给您。"
            "被盗的数据库不会泄露用户名；持有密钥的运营者则可以逐个尝试。",
        ),
        Text(
            "Nobody finds you by a handle; invites work as before.",
            "没有人能通过用户名找到您；邀请照常可用。",
        ),
        at_relay=True,
    ),
    Purpose.NUMBER: About(
        Text("Being found by a telephone number", "通过电话号码被找到"),
        Text(
            "Your number is verified by a message to it, then stored as a hash under a secret of the relay, with an "
            "encrypted invite to you. Those who have verified a number of their own and know yours can write to you. "
            "A stolen database does not give numbers away; the operator, who has the secret, could try all of them.",
            "您的号码经短信验证后，以中继密钥下的哈希值存储，并附带一份加密的邀请。已验证自己号码且知道您号码的人可以写信给您。"
            "被盗的数据库不会泄露号码；持有密钥的运营者则可以尝试所有号码。",
        ),
        Text(
            "Nobody finds you by your number, and you cannot look up others by theirs; invites work as before.",
            "没有人能通过号码找到您，您也不能查找他人的号码；邀请照常可用。",
        ),
        at_relay=True,
        handed_to=Role.SMS,
    ),
    Purpose.PUSH: About(
        Text("Being woken by a push service", "由推送服务唤醒"),
        Text(
            "The address that your device has at a push service is stored, encrypted under a key of the relay. When "
            "something arrives while you are not connected, the relay sends an empty message there, some seconds "
            "later and at most once a minute. The push service learns that something came for that device, and when.",
            "您的设备在推送服务处的地址以中继的密钥加密存储。当您离线而有内容到达时，中继会在数秒之后向该地址发送空消息，"
            "每分钟最多一次。推送服务会知道该设备有内容到达以及时间。",
        ),
        Text(
            "Your app sees what has arrived when it connects.",
            "您的应用在连接时才会看到已到达的内容。",
        ),
        at_relay=True,
        handed_to=Role.PUSH,
    ),
    Purpose.DIAGNOSTICS: About(
        Text("Diagnostics", "诊断统计"),
        Text(
            "Now and then your app sends coarse classes of how often it is used, what fails, how fast it is, and the "
            "channel it came from: randomised on your device, some hours late, over a connection without any "
            "identifier. The relay keeps sums alone, and only where at least 50 mailboxes exist. What is in a sum "
            "cannot be taken out again when you withdraw.",
            "您的应用会不时发送粗略分类的使用频率、故障、性能以及来源渠道：这些数据在您的设备上随机化，延迟数小时，"
            "通过不带任何标识的连接发送。中继只保存总数，且仅在至少有 50 个邮箱时进行。"
            "撤回同意后，已计入总数的部分无法取出。",
        ),
        Text("Nothing is sent.", "不会发送任何数据。"),
        at_relay=False,
    ),
    Purpose.NEWS: About(
        Text("News of the operator", "运营者的消息"),
        Text(
            "Your app shows announcements that are not necessary for the service, such as activities. They are public, "
            "the same for all, and lie where the necessary ones lie.",
            "您的应用会显示并非服务所必需的公告，例如活动。这些公告是公开的，对所有人相同，与必要的公告放在同一处。",
        ),
        Text(
            "Your app shows the necessary ones alone: changes of the policy or operator, and incidents.",
            "您的应用只显示必要的公告：政策或运营者的变更，以及事故。",
        ),
        at_relay=False,
    ),
}


_HANDED_ON: Final = Text(
    " {name} ({country}; {agreement}) receives for this: {data}.",
    "{name}（{country}；{agreement}）为此收到：{data}。",
)


def version(purpose: Purpose, processors: Sequence[Processor] = ()) -> bytes:
    """Return what names a purpose's text where these are declared: 8 bytes."""
    said = [purpose.value, *(said_in(purpose, language, processors) for language in LANGUAGES)]
    data = json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return primitives.blake2b(data, size=ids.PURPOSE_VERSION_BYTES, person=_PERSON)


def said_in(purpose: Purpose, language: str, processors: Sequence[Processor] = ()) -> dict[str, str]:
    """Return its texts in a language: title, what (and who of the processors receives data for it), refusing."""
    about = PURPOSES[purpose]
    handed = "".join(sorted(_handed(each, language) for each in processors if each.role is about.handed_to))
    return {"title": about.title[language], "what": about.what[language] + handed, "refusing": about.refusing[language]}


def _handed(processor: Processor, language: str) -> str:
    return _HANDED_ON[language].format(
        name=processor.name,
        country=processor.country,
        agreement=processor.agreement,
        data=ROLES[processor.role].data[language],
    )


def entry(purpose: Purpose, processors: Sequence[Processor] = ()) -> dict[str, Any]:
    """Return what the policy says of it to programs. PROTOCOL.md section 6.14."""
    languages = {language: said_in(purpose, language, processors) for language in LANGUAGES}
    return {"name": purpose.value, "version": version(purpose, processors).hex(), "languages": languages}


def parse(names: Iterable[str]) -> tuple[Purpose, ...]:
    """Return the purposes of these names, in one order whatever the names' is. Raises SettingError."""
    asked = set(names)
    if asked - set(Purpose):
        raise SettingError("a purpose is " + ", ".join(Purpose))
    return tuple(purpose for purpose in Purpose if purpose in asked)
