"""The wording of the privacy policy that is not about single data: English and Chinese.

Every promise names, in docs/privacy.md, the code that keeps it and the test that would fail.
"""

from dataclasses import dataclass
from typing import Final

from restante_server.categories import Text


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: its name, and what it means here."""

    title: Text
    text: Text


PROMISES: Final = (
    Promise(
        Text("Security and reliability", "安全与可靠"),
        Text(
            "What you send leaves your device encrypted and stays so until it reaches those you write to. What the "
            "relay has accepted survives a crash.",
            "您发送的内容在离开设备时已加密，直到送达对方才会解密。中继已接受的内容不会因崩溃而丢失。",
        ),
    ),
    Promise(
        Text("Independent choice", "自主选择"),
        Text(
            "Nothing optional is on before you turn it on. You can refuse each optional thing by itself, and take back "
            "a yes as easily as you gave it; everything else goes on working.",
            "任何可选功能在您开启之前都是关闭的。您可以单独拒绝每一项，撤回同意与给予同意一样容易，其余功能不受影响。",
        ),
    ),
    Promise(
        Text("Privacy of correspondence", "通信秘密"),
        Text(
            "Nobody but the members of a conversation can read it. The relay has no code that decrypts, and it does "
            "not store who wrote.",
            "除会话成员外，任何人都无法阅读其内容。中继没有任何解密代码，也不保存发送者是谁。",
        ),
    ),
    Promise(
        Text("Reasonableness and necessity", "合理与必要"),
        Text(
            "The relay keeps what is listed below, for the purposes and times given there, and nothing else.",
            "中继仅按下列目的和期限保存下列数据，别无其他。",
        ),
    ),
    Promise(
        Text("Openness and transparency", "公开与透明"),
        Text(
            "This page is made from the software's own list of its data, which its tests compare with what it does. "
            "Earlier versions stay readable, with what changed, and changes are "
            "announced in your app.",
            "本页由软件自身的数据清单生成，其测试会将清单与实际行为进行比较。早期版本及其变更始终可查，变更会在您的应用中公布。",
        ),
    ),
    Promise(
        Text("Privacy in the design", "隐私融入设计"),
        Text(
            "There are no accounts, names, telephone numbers, cookies or trackers. Ids are random and made on your "
            "device.",
            "没有账户、姓名、电话号码、Cookie 或跟踪器。标识由您的设备随机生成。",
        ),
    ),
)

TITLE: Final = Text("Privacy policy", "隐私政策")
HEADINGS: Final = {
    "promises": Text("What we promise", "我们的承诺"),
    "data": Text("What the relay handles", "中继处理哪些数据"),
    "network": Text("Your network address", "您的网络地址"),
    "rights": Text("What you can do", "您可以做什么"),
    "optional": Text("What is optional", "可选功能"),
    "granting": Text("If you say yes", "如果您同意"),
    "refusing": Text("If you do not", "如果您不同意"),
    "consent": Text("Where your yes is kept", "您的同意保存在哪里"),
    "third": Text("Who else receives data", "谁还会收到数据"),
    "disclosure": Text("When data is handed to others", "何时向他人提供数据"),
    "limits": Text("What this cannot promise", "本政策无法承诺的事项"),
    "changes": Text("Changes", "变更"),
    "what": Text("What it is", "是什么"),
    "purpose": Text("What for", "用途"),
    "basis": Text("Legal basis", "法律依据"),
    "readers": Text("Who can read it", "谁可以读取"),
    "kept": Text("How long", "保存多久"),
    "erased": Text("How it goes", "如何删除"),
}
PROCESSOR: Final = {
    "purpose": Text("What for", "用途"),
    "data": Text("What they receive", "收到的数据"),
    "country": Text("Country", "国家或地区"),
    "agreement": Text("Agreement", "协议"),
    "hosts": Text("Where", "位置"),
}
OPERATOR: Final = Text(
    "{name} runs this relay and is responsible for the data on it. Contact: {contact}.",
    "{name}运营本中继，并对其中的数据负责。联系方式：{contact}。",
)
NAMELESS: Final = Text(
    "Whoever runs this relay is responsible for the data on it, and has not given a name here.",
    "本中继的运营者对其中的数据负责，但尚未在此提供名称。",
)
NO_CONTACT: Final = Text("not given", "未提供")
NETWORK: Final = Text(
    "While your device is connected, the relay's machine necessarily knows its network (IP) address. The relay neither "
    "stores nor logs it. Networks and hosts on the way see it too.",
    "设备连接期间，中继所在的机器必然知道其网络（IP）地址。中继既不保存也不记录该地址。途经的网络和主机也能看到它。",
)
RIGHTS: Final = Text(
    "Your app can show you all that the relay holds of yours, give it to you as files, and erase it for good; you get "
    "a signed receipt, and backups lose it too. No form and no proof of who you are is needed: your keys are the "
    "proof. You may also complain to the authority for data protection where you live.",
    "您的应用可以向您展示中继所保存的您的全部数据，以文件形式交给您，并将其彻底删除；您会得到签名的回执，备份中的数据也会被删除。"
    "无需表格或身份证明：您的密钥就是证明。您也可以向所在地的数据保护机关投诉。",
)
OPTIONAL: Final = Text(
    "Each of these is separate and off until you turn it on in your app. You take a yes back as easily as you gave "
    "it, and what was stored for it is then erased; sums that name nobody stay. If what is said here about one of them "
    "changes, it is off until you say yes again. Everything else works the same without them.",
    "以下各项相互独立，在您于应用中开启之前均为关闭。撤回同意与给予同意一样容易，撤回后为此存储的数据将被删除；不涉及任何人的总数会保留。"
    "如果此处的说明有变更，该项将关闭，直到您再次同意。没有它们，其余功能照常可用。",
)
NOTHING_OPTIONAL: Final = Text(
    "Nothing: this relay offers nothing beyond the service.", "无：本中继不提供服务之外的任何功能。"
)
CONSENT_KEPT: Final = {
    True: Text(
        "at the relay, because it holds data of yours for this; it lapses 120 days after your app was last there",
        "在中继处，因为它为此保存您的数据；在您的应用最后一次连接 120 天后失效",
    ),
    False: Text("on your device alone: the relay does not know it", "仅在您的设备上：中继并不知道"),
}
NO_THIRD: Final = Text("Nobody.", "没有其他人。")
DISCLOSURE: Final = Text(
    "The operator hands data to others only on one of these grounds: {grounds}. Only what is listed under Mailboxes, "
    "Deposit addresses and Encrypted messages can be asked for; it stays encrypted. Each time is written into a log "
    "that cannot be changed unnoticed, your app tells you, at once or as soon as the law allows it, and /transparency "
    "shows how often it happened.",
    "运营者仅依据下列情形之一向他人提供数据：{grounds}。只能索取“邮箱”、“投递地址”和“加密消息”所列内容，且内容保持加密。"
    "每次都会写入无法被悄然更改的日志，您的应用会立即或在法律允许时尽快通知您，/transparency 显示发生的次数。",
)
LIMITS: Final = Text(
    "This policy is kept by the software. It cannot bind whoever owns the machine and its disk and goes around the "
    "software, nor those you write to. A relay that watches its live traffic can guess from times and network "
    "addresses who writes to whom.",
    "本政策由软件执行。它无法约束拥有机器和磁盘并绕过软件的人，也无法约束与您通信的人。"
    "监视实时流量的中继可以根据时间和网络地址推测谁与谁通信。",
)
CHANGES: Final = Text(
    "A change of this policy is announced in your app. Every earlier version, and what changed in it, is linked from "
    "this page.",
    "本政策的变更会在您的应用中公布。每个早期版本及其变更均可从本页链接查看。",
)
CHANGED: Final = Text(
    "The privacy policy of this relay has changed. Version {number}, and what changed in it, can be read at /privacy.",
    "本中继的隐私政策已变更。第 {number} 版及其变更可在 /privacy 查看。",
)
