"""The kinds of data that a relay handles, in the words of its privacy policy: English and Chinese.

``inventory`` puts every single column, log field and file into one of these. A category says what its items have in
common: what they are, what for, on which legal basis, who can read them, how long they stay, and how they go.
"""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

LANGUAGES: Final = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Text:
    """One text in each of LANGUAGES."""

    en: str
    zh: str

    def __getitem__(self, language: str) -> str:
        """Return the text in a language."""
        return self.zh if language == "zh" else self.en


SERVICE: Final = Text(
    "needed for the service that you ask for (performance of a contract)", "为提供您所要求的服务所必需（履行合同）"
)
SECURITY: Final = Text(
    "needed to run the service safely (legitimate interest, legal duty of security)",
    "为安全运行服务所必需（正当利益、法定安全义务）",
)
CONSENT: Final = Text("your consent, which you can take back at any time", "您的同意，您可随时撤回")
NOBODY: Final = Text("nobody but the people you write with: it is encrypted", "除与您通信的人之外无人可读：内容已加密")
OPERATOR: Final = Text("the operator", "运营者")
EVERYBODY: Final = Text("everybody: it is public and the same for all", "所有人：公开内容，对所有人相同")


@dataclass(frozen=True, slots=True)
class About:
    """What a category's items have in common.

    Attributes:
        title: its name.
        what: what the data are.
        purpose: what for.
        basis: the legal basis.
        readers: who can read it.
        kept: how long.
        erased: how it goes, and how the person it belongs to gets it.
    """

    title: Text
    what: Text
    purpose: Text
    basis: Text
    readers: Text
    kept: Text
    erased: Text


_WITH_MAILBOX: Final = Text(
    "your app can export it and erase it at any time",
    "您可随时在应用中导出或删除",
)
_BY_ITSELF: Final = Text("by itself, by the relay's clock", "到期后由中继自动删除")


class Category(Enum):
    """A kind of data."""

    MAILBOX = About(
        Text("Mailboxes", "邮箱"),
        Text(
            "a random id, a public key, random marks and counters: no name, no number, no account",
            "随机标识、公钥、随机标记和计数：没有姓名、号码或账户",
        ),
        Text("to let its owner, and nobody else, read and manage it", "使且仅使其所有者能够读取和管理"),
        SERVICE,
        OPERATOR,
        Text("as long as the mailbox exists", "邮箱存在期间"),
        _WITH_MAILBOX,
    )
    ADDRESS = About(
        Text("Deposit addresses", "投递地址"),
        Text("random aliases of a mailbox, each with a limit", "邮箱的随机别名，每个都有上限"),
        Text(
            "so that others can write to you, and you can take that back one by one", "让他人可以写信给您，并可逐一撤回"
        ),
        SERVICE,
        OPERATOR,
        Text("until revoked, or as long as the mailbox", "直到撤销，或邮箱存在期间"),
        _WITH_MAILBOX,
    )
    MESSAGE = About(
        Text("Encrypted messages", "加密消息"),
        Text(
            "padded ciphertext, which mailboxes it waits for, and hashes that make retries harmless",
            "经填充的密文、等待领取它的邮箱，以及使重试无害的哈希值",
        ),
        Text("to deliver it, once, in order", "按顺序、一次性投递"),
        SERVICE,
        NOBODY,
        Text(
            "until all have fetched it, at most 30 days; changes of a group's keys, and who made them, 31 days; "
            "hashes one day",
            "直到全部领取，最长 30 天；群组密钥的更改及其标记 31 天；哈希值一天",
        ),
        _BY_ITSELF,
    )
    PREKEY = About(
        Text("Sealed key packages", "密封的密钥包"),
        Text("encrypted packages that others need to start writing to you", "他人开始与您通信所需的加密包"),
        Text("so that you can be reached while you are offline", "使您离线时仍可被联系"),
        SERVICE,
        NOBODY,
        Text("until used, or as long as the mailbox", "直到使用，或邮箱存在期间"),
        _WITH_MAILBOX,
    )
    SLOT = About(
        Text("Encrypted slots", "加密槽位"),
        Text(
            "small ciphertexts without an owner's name, such as the page behind an invite or a profile",
            "不带所有者名称的小段密文，例如邀请背后的页面或个人资料",
        ),
        Text(
            "so that those to whom you gave the key can read what you put there", "使得到您密钥的人可以读取您放入的内容"
        ),
        SERVICE,
        NOBODY,
        Text("until you delete it, at most 120 days after you last wrote it", "直到您删除，最后写入后最长 120 天"),
        _WITH_MAILBOX,
    )
    BLOB = About(
        Text("Encrypted blobs", "加密附件"),
        Text(
            "large padded ciphertexts without an owner's name, such as attachments",
            "不带所有者名称、经填充的大段密文，例如附件",
        ),
        Text(
            "so that those to whom you gave the key can fetch what you put there",
            "使得到您密钥的人可以获取您放入的内容",
        ),
        SERVICE,
        NOBODY,
        Text("until your app deletes it, at most 45 days", "直到您的应用删除，最长 45 天"),
        _BY_ITSELF,
    )
    TOMBSTONE = About(
        Text("Marks of what was erased", "已删除内容的标记"),
        Text(
            "for each mailbox and slot that was erased a hash that says nothing without the relay's key, and when",
            "每个已删除的邮箱和槽位对应一个哈希值（没有中继密钥则毫无意义）以及删除时间",
        ),
        Text("so that it stays erased when an older backup is restored", "使其在恢复旧备份后仍保持删除"),
        SECURITY,
        OPERATOR,
        Text("one year and a day; older backups are not restored", "一年零一天；更早的备份不会被恢复"),
        _BY_ITSELF,
    )
    CODE = About(
        Text("Invite codes of the operator", "运营者的邀请码"),
        Text("hashes of codes that admit a new mailbox, or did", "允许或曾允许新建邮箱的代码的哈希值"),
        Text("admission, where the operator limits it", "运营者限制注册时的准入"),
        SECURITY,
        OPERATOR,
        Text("30 days, so that none is used twice", "30 天，以免同一代码被使用两次"),
        _BY_ITSELF,
    )
    GRANTED = About(
        Text("Consents", "同意记录"),
        Text(
            "for each optional thing that you granted to the relay which version of its text that was, and when, "
            "under a hash that says nothing without the relay's key",
            "您授予中继的每一项可选功能：当时说明文字的版本和时间，以没有中继密钥便毫无意义的哈希值存储",
        ),
        Text("to do what you agreed to, and nothing else", "仅做您同意的事"),
        Text("your consent, and the duty to be able to show it", "您的同意，以及证明该同意的义务"),
        OPERATOR,
        Text(
            "until you withdraw it, as long as the mailbox, at most 120 days after your app was last there",
            "直到您撤回，或邮箱存在期间，最长至您的应用最后一次连接后 120 天",
        ),
        _WITH_MAILBOX,
    )
    PUBLISHED = About(
        Text("What the operator publishes", "运营者发布的内容"),
        Text("this policy and its earlier versions, and announcements", "本政策及其早期版本，以及公告"),
        Text("to tell you what the relay does", "告知您中继的行为"),
        SERVICE,
        EVERYBODY,
        Text("as long as the relay runs, and at most 120 days after", "中继运行期间，以及停止后最长 120 天"),
        Text("it holds nothing of yours", "其中没有您的数据"),
    )
    DISCLOSURE = About(
        Text("Record of disclosures", "披露记录"),
        Text(
            "if data was handed to others: when, on which ground, to whom, why, which fields, and a hash that stands "
            "for the mailbox and says nothing without the relay's key",
            "如曾向他人提供数据：时间、法律依据、接收方、理由、字段，以及代表邮箱的哈希值（没有中继密钥则毫无意义）",
        ),
        Text("to tell you, and to answer for it", "告知您，并对此负责"),
        SECURITY,
        OPERATOR,
        Text(
            "as long as the relay runs; the data themselves until the operator has handed them on",
            "中继运行期间；数据本身至运营者转交为止",
        ),
        Text(
            "your app is told of each, at once or as soon as the law allows it",
            "您的应用会立即或在法律允许时尽快收到每次披露的通知",
        ),
    )
    SUMS = About(
        Text("Sums of diagnostics", "诊断总数"),
        Text(
            "how many randomised reports there were of each class, of everybody together: no row for anybody, no times",
            "每一类随机化报告的总数，所有人合计：没有任何个人的记录，也没有时间",
        ),
        Text("to see how the service is used and where it fails", "了解服务的使用情况和故障"),
        CONSENT,
        EVERYBODY,
        Text("as long as the relay runs, and at most 120 days after", "中继运行期间，以及停止后最长 120 天"),
        Text("what is in a sum cannot be told apart and stays in it", "已计入总数的部分无法区分，将保留其中"),
    )
    STORE = About(
        Text("Marks of the store", "存储的标记"),
        Text(
            "random marks, a lock and the relay's own key: nothing about people",
            "随机标记、锁和中继自身的密钥：与人无关",
        ),
        Text("to notice an old copy put back, and to sign", "发现被放回的旧副本，以及签名"),
        SECURITY,
        OPERATOR,
        Text("as long as the store", "存储存在期间"),
        Text("with the store", "随存储一起"),
    )
    DIRECTORY = About(
        Text("The directory", "名录"),
        Text(
            "only if you turn it on: an encrypted invite of yours, at a place that is computed from your handle or "
            "mobile number and a secret of the relay, and sealed marks of which mailbox has it, when a number was "
            "verified, and how much was looked for with it. Neither handle nor number is kept",
            "仅在您开启时：您的一份加密邀请，存放于由用户名或手机号码与中继密钥计算出的位置；以及经密封的标记，"
            "说明它属于哪个邮箱、号码何时经过验证、用它查找了多少次。用户名和号码本身均不保存",
        ),
        Text(
            "so that those who know your handle or number can write to you, and nobody can try them all",
            "使知道您用户名或号码的人可以写信给您，并防止有人逐一尝试",
        ),
        CONSENT,
        Text(
            "who knows the exact handle; of a number, who knows it and has verified one of their own; and the "
            "operator, who has the secret and could try all numbers. A stolen database or backup, without the secret, "
            "gives none of it away",
            "知道确切用户名的人；对于号码，则是知道该号码且已验证自己号码的人；以及持有密钥、可以尝试所有号码的运营者。"
            "没有密钥，被盗的数据库或备份不会泄露其中任何内容",
        ),
        Text(
            "until you withdraw, or 120 days after your app has renewed it; what was looked for, four days",
            "直到您撤回，或您的应用最后一次续期后 120 天；查找次数的记录保存四天",
        ),
        _WITH_MAILBOX,
    )
    ENDPOINT = About(
        Text("Where your device is woken", "在何处唤醒您的设备"),
        Text(
            "only if you turn it on: the address that your device has at a push service, encrypted under a key of the "
            "relay and padded, and for a minute that it was just used",
            "仅在您开启时：您的设备在推送服务处的地址，以中继的密钥加密并填充；以及刚刚使用过该地址的标记，保存一分钟",
        ),
        Text("to wake your app when something waits", "有内容等待时唤醒您的应用"),
        CONSENT,
        Text(
            "the operator, who has the key; a stolen database, without it, gives none of it away",
            "持有密钥的运营者；没有密钥，被盗的数据库不会泄露其中任何内容",
        ),
        Text(
            "until you withdraw or change it, until the push service says that it is gone, or 120 days after your app "
            "has renewed it",
            "直到您撤回或更改、推送服务表示其已失效，或您的应用最后一次续期后 120 天",
        ),
        _WITH_MAILBOX,
    )
    HANDED_ON = About(
        Text("What is handed on for you", "为您转交的数据"),
        Text(
            "only if you turn on what needs it: your mobile number with the code that checks it, or the address "
            "at which your device is woken, without any content",
            "仅在您开启相应功能时：用于验证的手机号码和验证码，或用于唤醒设备的地址，不含任何内容",
        ),
        Text("to check that a number is yours, and to wake your app", "确认号码属于您，以及唤醒您的应用"),
        CONSENT,
        Text("the operator, and whoever is named below for it", "运营者，以及下文列出的相应接收方"),
        Text("the relay does not keep what it hands on", "中继不保存所转交的内容"),
        Text("at once; nothing goes out after you took your consent back", "立即；您撤回同意后不再转交"),
    )
    OPERATIONS = About(
        Text("Logs and metrics", "日志与指标"),
        Text(
            "constant words, codes, counts and places in the code; no id, no address, no content",
            "固定词语、代码、计数和代码位置；没有标识、地址或内容",
        ),
        Text("to run the service and find its faults", "运行服务并查找故障"),
        SECURITY,
        OPERATOR,
        Text("as long as the operator keeps logs: they name nobody", "取决于运营者保存日志的时间：其中不涉及任何人"),
        Text("they hold nothing of yours", "其中没有您的数据"),
    )


def incomplete(category: Category) -> list[str]:
    """Return the parts of a category that lack a language."""
    return [
        each.name
        for each in fields(About)
        for language in LANGUAGES
        if not getattr(category.value, each.name)[language]
    ]
