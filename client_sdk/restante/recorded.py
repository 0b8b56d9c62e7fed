"""Events as the client's file has them (``engine.records``), made into what an application sees (``events``)."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from restante import content, events
from restante.account import account_id
from restante.conversation import Conversation
from restante.engine import records
from restante.events import Announcement, Disclosed, Event

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

KINDS: Final[dict[type[records.StoredEvent], type[Event]]] = {
    records.MessageEvent: events.Message,
    records.RequestEvent: events.ContactRequest,
    records.AddedEvent: events.MemberAdded,
    records.RemovedEvent: events.MemberRemoved,
    records.FailedEvent: events.DecryptFailed,
    records.MissingEvent: events.MessagesMissing,
    records.DeviceEvent: events.DeviceAdded,
    records.DeviceChangedEvent: events.DeviceChanged,
    records.RolledBackEvent: events.StateRolledBack,
    records.AnnouncedEvent: events.Announcement,
    records.OverusedEvent: events.InviteOverused,
    records.ProfileEvent: events.ProfileChanged,
    records.SuiteEvent: events.SuiteChanged,
    records.PurposeEvent: events.PurposeChanged,
    records.DisclosedEvent: events.Disclosed,
    records.EntryLostEvent: events.EntryLost,
    records.PushLostEvent: events.PushLost,
}
"""What each becomes."""


def as_event(
    engine: "Engine", driver: "Driver", number: int, record: records.StoredEvent, handled: Callable[[], Awaitable[None]]
) -> Event:
    """Return an event of this number; ``handled`` is called when the application has handled it."""
    fields: dict[str, Any] = {"id": f"{number:016x}", "_handled": handled}
    match record:
        case records.AnnouncedEvent():
            return as_announcement(record, **fields)
        case records.DisclosedEvent():
            return as_disclosed(record, **fields)
        case records.PurposeEvent() | records.EntryLostEvent():
            fields["purpose"] = record.purpose
        case records.OverusedEvent():
            fields["invite"] = record.invite
        case records.RolledBackEvent() | records.PushLostEvent():
            pass
        case _:
            conversation = Conversation(engine, driver, record.conversation.hex())
            fields |= {"conversation": conversation} | _of_conversation(record, conversation)
            if isinstance(record, records.FailedEvent) and conversation.id not in engine.views():
                fields["conversation"] = None
    return KINDS[type(record)](**fields)


_OfConversation = (
    records.MessageEvent
    | records.RequestEvent
    | records.AddedEvent
    | records.RemovedEvent
    | records.FailedEvent
    | records.MissingEvent
    | records.DeviceEvent
    | records.DeviceChangedEvent
    | records.ProfileEvent
    | records.SuiteEvent
)


def _of_conversation(record: _OfConversation, conversation: Conversation) -> dict[str, Any]:
    fields: dict[str, Any]
    match record:
        case records.MessageEvent():
            fields = {
                "id": content.message_id(record.conversation, record.sender, record.content_id),
                "sender": account_id(record.sender),
                "text": record.body.decode(errors="replace") if record.content_type == content.TEXT else None,
                "data": record.body,
                "sent_at": datetime.fromtimestamp(record.sent_at / 1000, UTC),
                "_content_id": record.content_id,
            }
        case records.RequestEvent():
            fields = {"sender": account_id(record.sender), "_accept": conversation.accept}
        case records.AddedEvent() | records.RemovedEvent():
            fields = {"member": account_id(record.member), "by": account_id(record.by)}
        case records.FailedEvent():
            fields = {"cause": record.cause, "advice": record.advice}
        case records.MissingEvent():
            fields = {"sender": account_id(record.sender), "count": record.count}
        case records.DeviceEvent() | records.ProfileEvent():
            fields = {"account": account_id(record.account)}
        case records.DeviceChangedEvent():
            fields = {"account": account_id(record.account), "change": record.change}
        case records.SuiteEvent():
            fields = {"suite": record.suite}
    return fields


def as_announcement(record: records.AnnouncedEvent, **fields: Any) -> Announcement:  # noqa: ANN401 -- the event's own
    """Return what was announced; ``fields``: the event's id, and what else events have."""
    announced_at = datetime.fromtimestamp(record.at / 1000, UTC)
    return Announcement(kind=record.kind, number=record.number, announced_at=announced_at, texts=record.texts, **fields)


def as_disclosed(record: records.DisclosedEvent, **fields: Any) -> Disclosed:  # noqa: ANN401 -- the event's own
    """Return what was disclosed; ``fields`` as above."""
    return Disclosed(
        ground=record.ground,
        to=record.to,
        reason=record.reason,
        fields=tuple(record.fields),
        number=record.number,
        disclosed_at=datetime.fromtimestamp(record.at, UTC),
        **fields,
    )
