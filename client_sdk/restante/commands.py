"""The commands of ``restante.manage``: what each does with an open client, and its options."""

import argparse
import asyncio
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from restante import Client, ContactRequest, Conversation, Found, Message
from restante.account import account_id
from restante.invites import Invite

_LANGUAGE: Final = "en"
_PREFIX: Final = "restante:"  # of an invite
_WAIT: Final = 2.0  # seconds

Arguments = argparse.Namespace
Parser = argparse.ArgumentParser


def plain(text: str) -> str:
    """Return a text without what a terminal would obey: some of it is the relay's."""
    obeyed = {ord(each) for each in text if unicodedata.category(each) == "Cc"} - {ord("\n")}
    return text.translate(dict.fromkeys(obeyed, "\N{REPLACEMENT CHARACTER}"))


def show(text: str) -> None:
    """Print something of the result."""
    print(plain(text), flush=True)  # noqa: T201 -- the command's result


def _line(text: str) -> str:
    """Return what somebody else wrote as one line that does nothing to a terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


# Conversations.


async def _invite(client: Client, _arguments: Arguments) -> str:
    return await client.invite()


async def _write(client: Client, arguments: Arguments) -> str:
    room = await _room(client, arguments.to)
    await room.send(arguments.text)
    return f"conversation {room.id}"


async def _room(client: Client, to: str) -> Conversation:
    """Return the conversation of this id, or with whom this names, begun if there is none. Raises ValueError."""
    rooms = client.conversations()
    for room in rooms:
        if room.id == to:
            return room
    invite = to
    if not to.startswith(_PREFIX):
        named = [each.invite for each in await client.official() if each.name == to]
        if not named:
            raise ValueError("this is no invite, no conversation, and nobody of the operator's people")
        invite = named[-1]
    pair = {client.account_id, account_id(Invite.parse(invite).account)}
    return next((room for room in rooms if set(room.members) == pair), None) or await client.start_conversation(invite)


async def _read(client: Client, arguments: Arguments) -> str:
    await client.drained()
    asked: set[str] = set()
    for room in client.conversations():
        await _ask(room, asked, accept=arguments.accept)
    events = client.events()
    while True:
        try:
            event = await asyncio.wait_for(anext(events), arguments.wait)
        except TimeoutError:
            return ""
        match event:
            case ContactRequest(conversation=room):
                await _ask(room, asked, accept=arguments.accept)
            case Message(conversation=room, sender=sender, text=text, data=data):
                show(f"{room.id} {sender} {f'{len(data)} bytes' if text is None else _line(text)}")


async def _ask(room: Conversation, asked: set[str], *, accept: bool) -> None:
    """Say once that a stranger has begun a conversation, and take it up if that is wanted."""
    if room.accepted or room.id in asked:
        return
    asked.add(room.id)
    if accept:
        await room.accept()
    show(f"{room.id} a stranger began this conversation{'' if accept else ': --accept takes it up'}")


async def _contacts(client: Client, arguments: Arguments) -> str:
    if arguments.safety:
        return client.safety_number(arguments.safety).digits
    if arguments.confirm and not await client.confirm_safety_number(*arguments.confirm):
        raise ValueError("this is another safety number: somebody may stand between you")
    shown = [
        f"{each.account} {'verified' if each.verified else 'unverified'}"
        f"{f', found by {each.found_by}' if each.found_by else ''}"
        for each in await client.contacts()
    ]
    return "\n".join(shown) or "no contacts"


# What a person says of themselves.


async def _profile(client: Client, arguments: Arguments) -> str:
    own = await client.profile(client.account_id)
    before = nickname, avatar = (own.nickname, own.avatar) if own is not None else ("", b"")
    if arguments.nickname is not None:
        nickname = arguments.nickname
    if arguments.avatar is not None:
        avatar = await asyncio.to_thread(arguments.avatar.read_bytes)
    if arguments.no_avatar:
        avatar = b""
    if arguments.clear or not (nickname or avatar):
        await client.delete_profile()
    elif (nickname, avatar) != before:
        await client.set_profile(nickname, avatar)
    shown = await client.profile(arguments.of or client.account_id)
    if shown is None:
        return "no profile"
    if arguments.save is not None:
        await asyncio.to_thread(arguments.save.write_bytes, shown.avatar)
    return f"nickname {_line(shown.nickname)}\navatar {len(shown.avatar)} bytes"


async def _consent(client: Client, arguments: Arguments) -> str:
    if arguments.grant:
        await client.consent(arguments.grant)
    if arguments.withdraw:
        await client.withdraw(arguments.withdraw)
    shown = [
        f"{each.name}: {'granted' if each.granted else 'off'}\n  {each.title(arguments.language)}\n"
        f"  {each.what(arguments.language)}\n  {each.refusing(arguments.language)}"
        for each in await client.purposes()
    ]
    return "\n".join(shown) or "this relay offers nothing optional"


async def _handle(client: Client, arguments: Arguments) -> str:
    if arguments.set:
        await client.set_handle(arguments.set)
    if arguments.clear:
        await client.clear_handle()
    if arguments.find:
        return _shown(await client.find_handle(arguments.find))
    return await client.handle() or "no handle"


async def _number(client: Client, arguments: Arguments) -> str:
    if arguments.verify:
        await client.verify_number(arguments.verify)
        return "a code was sent"
    if arguments.confirm:
        await client.confirm_number(*arguments.confirm)
    if arguments.clear:
        await client.clear_number()
    if arguments.find:
        return _shown(next(iter((await client.find_numbers([arguments.find])).values()), None))
    return await client.number() or "no number"


async def _push(client: Client, arguments: Arguments) -> str:
    if arguments.set:
        await client.set_push(arguments.set)
    if arguments.clear:
        await client.clear_push()
    return f"{await client.push() or 'no endpoint'}\nkey {await client.push_key()}"


def _shown(found: Found | None) -> str:
    if found is None:
        return "nobody"
    return f"{found.account}\n{found.invite}\nunverified: compare safety numbers"


# What the relay holds.


async def _export(client: Client, arguments: Arguments) -> str:
    export = await client.export_data()
    await asyncio.to_thread(export.write, arguments.folder)
    return f"{sum(len(rows) for rows in export.document['held'].values())} things, {len(export.files)} files"


async def _erase(client: Client, _arguments: Arguments) -> str:
    erasure = await client.erase()
    return f"mailbox {erasure.mailbox.hex()}\nerased {erasure.erased_at.isoformat()}\nreceipt {erasure.signature.hex()}"


# What the operator says.


async def _policy(client: Client, arguments: Arguments) -> str:
    policy = await client.policy(arguments.number)
    return policy.text(arguments.language).rstrip() if policy is not None else "there is no such policy"


async def _news(client: Client, arguments: Arguments) -> str:
    shown = [
        f"{each.announced_at:%Y-%m-%d} [{each.kind}] {each.text(arguments.language)}"
        for each in await client.announcements()
    ]
    return "\n".join(shown) or "nothing is announced"


async def _official(client: Client, _arguments: Arguments) -> str:
    shown = [f"{_line(each.name)}\n  {_line(each.invite)}" for each in await client.official()]
    return "\n".join(shown) or "the operator names nobody"


async def _disclosures(client: Client, _arguments: Arguments) -> str:
    told = await client.transparency()
    lines = [f"disclosures of this relay: {told.count if told is not None else 'it does not say'}"]
    lines += [f"  {_line(ground)}: {count}" for ground, count in (told.grounds.items() if told is not None else ())]
    own = await client.disclosures()
    lines.append(f"of this account, as far as it may be told: {len(own)}")
    for each in own:
        said = f"[{each.ground}] to {each.to}: {', '.join(each.fields)}; {each.reason}"
        lines.append(f"  {each.disclosed_at:%Y-%m-%d} {_line(said)}")
    return "\n".join(lines)


# The command line.


def _nothing(_parser: Parser) -> None:
    """No options of its own."""


def _invite_options(parser: Parser) -> None:
    parser.add_argument("--new", action="store_true", help="make the file: a new account")
    parser.add_argument("--agree", action="store_true", help="to the relay's privacy policy, for a new account")
    parser.add_argument("--admission", default="", metavar="CODE", help="for a relay that asks new accounts for one")
    _language(parser)


def _write_options(parser: Parser) -> None:
    parser.add_argument("to", help="an invite (restante:...), a name that 'official' shows, or a conversation's id")
    parser.add_argument("text", help="at most 64 KiB")


def _read_options(parser: Parser) -> None:
    parser.add_argument("--accept", action="store_true", help="take up conversations that strangers begin")
    parser.add_argument("--wait", type=float, default=_WAIT, metavar="SECONDS", help="for the next one (%(default)s)")


def _contacts_options(parser: Parser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--safety", metavar="ACCOUNT", help="show the safety number: both of you see the same")
    either.add_argument("--confirm", nargs=2, metavar=("ACCOUNT", "DIGITS"), help="keep that these are what they see")


def _profile_options(parser: Parser) -> None:
    parser.add_argument("--nickname", help="at most 256 bytes")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--avatar", type=Path, metavar="PICTURE", help="a file, at most 48 KiB")
    either.add_argument("--no-avatar", action="store_true", help="none any more")
    parser.add_argument("--clear", action="store_true", help="delete nickname and avatar")
    parser.add_argument("--of", metavar="ACCOUNT", help="show a contact's instead")
    parser.add_argument("--save", type=Path, metavar="PICTURE", help="write the avatar into a file")


def _consent_options(parser: Parser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--grant", metavar="PURPOSE", help="say yes to it")
    either.add_argument("--withdraw", metavar="PURPOSE", help="take the yes back: what was held for it is erased")
    _language(parser)


def _handle_options(parser: Parser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--set", metavar="HANDLE", help="be found by it, and by no other")
    either.add_argument("--find", metavar="HANDLE", help="look for who has exactly this one")
    either.add_argument("--clear", action="store_true", help="be found by none")


def _number_options(parser: Parser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--verify", metavar="NUMBER", help="have a code sent to it")
    either.add_argument("--confirm", nargs=2, metavar=("NUMBER", "CODE"), help="say the code, and be found by it")
    either.add_argument("--find", metavar="NUMBER", help="look for who has verified this one")
    either.add_argument("--clear", action="store_true", help="be found by none")


def _push_options(parser: Parser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--set", metavar="URL", help="be woken at this endpoint of a push service")
    either.add_argument("--clear", action="store_true", help="be woken no more")


def _export_options(parser: Parser) -> None:
    parser.add_argument("folder", type=Path, help="that does not exist yet")


def _policy_options(parser: Parser) -> None:
    parser.add_argument("--number", type=int, help="of an earlier version")
    _language(parser)


def _language(parser: Parser) -> None:
    parser.add_argument("--language", default=_LANGUAGE, help="such as en or zh (%(default)s)")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it does, its options, and what runs it and returns what to print."""

    about: str
    options: Callable[[Parser], None]
    run: Callable[[Client, Arguments], Awaitable[str]]


COMMANDS: Final = {
    "invite": Command(
        "Make an invite to give to somebody; with --new make the account first.", _invite_options, _invite
    ),
    "write": Command(
        "Send a text: to an invite, to one of the operator's people, or into a conversation.", _write_options, _write
    ),
    "read": Command("Show what others have sent, and take it off the relay.", _read_options, _read),
    "contacts": Command(
        "Show who is known, and whether safety numbers were compared; compare them.", _contacts_options, _contacts
    ),
    "profile": Command("Show, change or delete the nickname and avatar that contacts see.", _profile_options, _profile),
    "consent": Command(
        "Show what a relay offers beyond the service, each off until it is granted; grant or withdraw one.",
        _consent_options,
        _consent,
    ),
    "handle": Command(
        'Show, set, clear or look for a handle; the purpose "handle" has to be granted.', _handle_options, _handle
    ),
    "number": Command(
        'Show, verify, clear or look for a mobile number; the purpose "number" has to be granted.',
        _number_options,
        _number,
    ),
    "push": Command(
        'Show, set or clear where a device is woken, and show the relay\'s key for it; "push" has to be granted.',
        _push_options,
        _push,
    ),
    "export": Command("Bring home all that a relay holds of an account.", _export_options, _export),
    "erase": Command(
        "Erase all that a relay holds of an account, for good, and print the relay's receipt.", _nothing, _erase
    ),
    "policy": Command(
        "Show a relay's privacy policy, signed by the key that the file knows.", _policy_options, _policy
    ),
    "news": Command(
        "Show what a relay's operator announces to everybody, signed by the key that the file knows.", _language, _news
    ),
    "official": Command(
        "Show whom of the operator's people one can write to, signed by the key that the file knows.",
        _nothing,
        _official,
    ),
    "disclosures": Command(
        "Show what the operator has handed to others: how often at all, and what of this account.",
        _nothing,
        _disclosures,
    ),
}
