"""Run a relay for end-to-end encrypted messages, look after it, and see what it holds of an account."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

try:
    import typer

    from restante_protocol.limits import BLOBS_BYTES
    from restante_server import announcements, bench, codes, disclosures, logs, migrate, persons, processors
    from restante_server import doctor as checks
    from restante_server.app import Relay, serve
    from restante_server.clock import system_clock
    from restante_server.config import (
        ADMISSION_MODES,
        DEFAULT_LISTEN,
        DEFAULT_STATE,
        DEFAULT_STORE,
        BenchLimits,
        SettingError,
        Settings,
        parse_blobs,
        parse_listen,
        parse_several,
        parse_store,
    )
    from restante_server.grounds import Ground
    from restante_server.purposes import Purpose
    from restante_server.services.disclosure import NotDisclosed, Request, new_id
    from restante_server.stores import backup as backups
    from restante_server.stores.contract import StoreRefused
    from restante_server.stores.redis_address import is_redis, parse_redis
    from restante_server.workers import supervise
except ModuleNotFoundError as error:
    sys.exit(f"restante: the relay needs more packages ({error.name} is missing): pip install 'restante[server]'")

cli = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


_STORE_HELP = (
    "sqlite:PATH, redis://HOST:PORT[/DB], redis+cluster://HOST:PORT,... or redis+sentinel://HOST:PORT,.../NAME"
)
_PROCESSOR = "RESTANTE_PROCESSOR"  # not the library's envvar: it would split values at spaces
_OFFICIAL = "RESTANTE_OFFICIAL_INVITE"  # the same
_STATE = typer.Option(DEFAULT_STATE, envvar="RESTANTE_STATE", help="With Redis: folder of the relay's key and blobs.")


def _store(value: str, state: str = "") -> Path:
    """Return the database file; for a Redis store, a name in the folder of what is kept beside it."""
    try:
        if not is_redis(value):
            return parse_store(value)
        parse_redis(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not state:
        raise typer.BadParameter("this is for a store in one file")
    return Path(state) / "relay.db"  # there is no such file


@cli.command("serve")
def serve_command(
    listen: str = typer.Option(DEFAULT_LISTEN, envvar="RESTANTE_LISTEN", help="HOST:PORT; port 0 picks a free one."),
    store: str = typer.Option(DEFAULT_STORE, envvar="RESTANTE_STORE", help=_STORE_HELP),
    state: str = _STATE,
    workers: int = typer.Option(1, min=1, max=256, envvar="RESTANTE_WORKERS", help="Processes, over one Redis."),
    accept_loss: bool = typer.Option(
        False,
        "--accept-loss-on-power-failure",
        envvar="RESTANTE_ACCEPT_LOSS_ON_POWER_FAILURE",
        help="Take a Redis with appendfsync everysec: the last second may be lost.",
    ),
    shared_port: bool = typer.Option(
        False, "--shared-port", hidden=True, help="One of several workers: the address is shared."
    ),
    admission: str = typer.Option(
        "open", envvar="RESTANTE_ADMISSION", help="Who may create mailboxes: open, invite (by code) or closed."
    ),
    max_store_bytes: int = typer.Option(
        0, envvar="RESTANTE_MAX_STORE_BYTES", min=0, help="Largest database file; 0: no limit."
    ),
    blobs: str = typer.Option(
        "", envvar="RESTANTE_BLOBS", help="Folder for blobs, or s3://BUCKET/PREFIX; by default beside the store."
    ),
    max_blobs_bytes: int = typer.Option(
        BLOBS_BYTES, envvar="RESTANTE_MAX_BLOBS_BYTES", min=0, help="All blobs together; 0: none are taken."
    ),
    ops_listen: str = typer.Option(
        "", envvar="RESTANTE_OPS_LISTEN", help="HOST:PORT for /healthz, /readyz and /metrics; off by default."
    ),
    operator_name: str = typer.Option(
        "", envvar="RESTANTE_OPERATOR_NAME", help="Who is responsible, for the privacy policy."
    ),
    operator_contact: str = typer.Option("", envvar="RESTANTE_OPERATOR_CONTACT", help="How to reach them."),
    processor: Annotated[
        list[str] | None,
        typer.Option(
            help="Who else gets data: 'ROLE=NAME;COUNTRY;AGREEMENT', hosting, object-storage, sms; "
            "'push=NAME;COUNTRY;AGREEMENT;HOST HOST...'. Repeatable; "
            f"or in {_PROCESSOR}, several as a JSON array.",
        ),
    ] = None,
    bench_seconds: int = typer.Option(
        0,
        envvar="RESTANTE_BENCH_SECONDS",
        min=0,
        max=600,
        help="A turn of `restante bench` may take; 0: there is none.",
    ),
    bench_mailboxes: int = typer.Option(
        20, envvar="RESTANTE_BENCH_MAILBOXES", min=1, max=1000, help="A turn may make; they are deleted after it."
    ),
    bench_deposits: int = typer.Option(
        10_000, envvar="RESTANTE_BENCH_DEPOSITS", min=1, max=10_000_000, help="A turn may make."
    ),
    official_invite: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=restante:...: an invite of your staff, published for support and activities. Repeatable; or in "
            f"{_OFFICIAL}, several as a JSON array.",
        ),
    ] = None,
    purposes: str = typer.Option(
        "",
        envvar="RESTANTE_PURPOSES",
        help=f"Optional purposes to offer, by commas: {', '.join(Purpose)}. None by default.",
    ),
    oprf_key: str = typer.Option(
        "", envvar="RESTANTE_OPRF_KEY", help="File of the directory's secret, made if there is none; never in backups."
    ),
    new_oprf_key: bool = typer.Option(
        False, "--new-oprf-key", help="The secret is lost: begin an empty directory under the one of the file."
    ),
    sms: str = typer.Option(
        "", envvar="RESTANTE_SMS", help="What sends the codes that verify numbers: console, or a webhook's https URL."
    ),
    sms_secret: str = typer.Option(
        "", envvar="RESTANTE_SMS_SECRET", help="File of the secret shared with the webhook."
    ),
    push_private: bool = typer.Option(
        False,
        "--push-private",
        envvar="RESTANTE_PUSH_PRIVATE",
        help="Push services may be at private addresses, and without TLS: your own, or for development.",
    ),
) -> None:
    """Run a relay until SIGTERM."""
    offered = tuple(name.strip() for name in purposes.split(",") if name.strip())
    if set(offered) - set(Purpose):
        raise typer.BadParameter(f"purposes are {', '.join(Purpose)}")
    if admission not in ADMISSION_MODES:
        raise typer.BadParameter("admission is open, invite or closed")
    try:
        settings = Settings(
            listen=parse_listen(listen),
            store=_store(store, state),
            redis=store if is_redis(store) else "",
            accept_loss=accept_loss,
            reuse_port=shared_port,
            admission=admission,
            max_store_bytes=max_store_bytes,
            blobs=parse_blobs(blobs),
            max_blobs_bytes=max_blobs_bytes,
            ops_listen=parse_listen(ops_listen) if ops_listen else None,
            operator_name=operator_name,
            operator_contact=operator_contact,
            processors=tuple(processor or parse_several(os.environ.get(_PROCESSOR, ""))),
            bench=BenchLimits(bench_seconds, bench_mailboxes, bench_deposits),
            oprf_key=Path(oprf_key) if oprf_key else None,
            new_oprf_key=new_oprf_key,
            sms=sms,
            sms_secret=Path(sms_secret) if sms_secret else None,
            official=tuple(official_invite or parse_several(os.environ.get(_OFFICIAL, ""))),
            purposes=offered,
            push_private=push_private,
        )
    except SettingError as error:
        raise typer.BadParameter(str(error)) from None

    def ready(relay: Relay) -> None:
        print(f"ready {relay.url} level={relay.store.level}", flush=True)  # noqa: T201 -- the ready line

    logs.configure()
    try:
        many = workers > 1
        status = asyncio.run(supervise(settings, workers, sys.argv[1:])) if many else _run(settings, ready)
    except (StoreRefused, SettingError) as error:
        sys.exit(f"restante: {error}")
    except OSError as error:
        sys.exit(f"restante: cannot listen or write: {error.strerror or error}")
    sys.exit(status)


def _run(settings: Settings, ready: "checks.Ready") -> int:
    if sys.platform == "win32":
        return asyncio.run(serve(settings, ready))
    import uvloop  # noqa: PLC0415 -- not on every system

    return uvloop.run(serve(settings, ready))


@cli.command()
def demo() -> None:
    """Show three people in two conversations, and what the relay's disk holds of it."""
    sys.exit(subprocess.run([sys.executable, "-m", "restante.demo"], check=False).returncode)


def _person(context: typer.Context) -> None:
    sys.exit(persons.run([context.info_name or "", *context.args]))


for _name, _about in persons.COMMANDS.items():
    cli.command(
        _name,
        help=_about,
        add_help_option=False,  # the SDK's side has the options
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_person)


@cli.command()
def backup(
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    store: str = typer.Option(DEFAULT_STORE, envvar="RESTANTE_STORE", help="sqlite:PATH; may be in use."),
    blobs: str = typer.Option("", envvar="RESTANTE_BLOBS", help="Folder for blobs; by default beside the store."),
) -> None:
    """Copy a store and its blobs into a folder, while the relay runs."""
    try:
        backups.backup(_store(store), destination, Path(blobs) if blobs else None)
    except StoreRefused as error:
        sys.exit(f"restante: {error}")


@cli.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A folder made by backup.")],
    store: str = typer.Option(DEFAULT_STORE, envvar="RESTANTE_STORE", help="sqlite:PATH; not in use."),
    blobs: str = typer.Option("", envvar="RESTANTE_BLOBS", help="Folder for blobs; by default beside the store."),
    force: bool = typer.Option(False, "--force", help="Replace a store that exists."),
) -> None:
    """Put a backup in the place of a store."""
    try:
        backups.restore(source, _store(store), blobs=Path(blobs) if blobs else None, force=force)
    except StoreRefused as error:
        sys.exit(f"restante: {error}")


@cli.command("migrate")
def migrate_command(
    source: str = typer.Option(..., "--from", help=_STORE_HELP),
    target: str = typer.Option(..., "--to", help="The same; an empty store."),
    accept_loss: bool = typer.Option(False, "--accept-loss-on-power-failure", help="As for serve."),
) -> None:
    """Move everything from one store into another while no relay runs; compare both by counts and digests."""
    for name in (source, target):
        _store(name, DEFAULT_STATE)
    try:
        print(migrate.describe(asyncio.run(migrate.run(source, target, accept_loss=accept_loss))))  # noqa: T201 -- result
    except StoreRefused as error:
        sys.exit(f"restante: {error}")


@cli.command()
def admit(
    store: str = typer.Option(
        DEFAULT_STORE, envvar="RESTANTE_STORE", help="sqlite:PATH or redis://...; may be in use."
    ),
    state: str = _STATE,
    count: int = typer.Option(1, min=1, max=1000, help="How many codes."),
) -> None:
    """Print invite codes for `serve --admission invite`; each admits one mailbox within 30 days."""
    try:
        for code in codes.leave(_store(store, state), count, system_clock()):
            print(code)  # noqa: T201 -- the command's result
    except OSError as error:
        sys.exit(f"restante: cannot write beside the store: {error.strerror}")


@cli.command()
def announce(
    kind: Annotated[announcements.Kind, typer.Argument(help="What it is about.")],
    text: Annotated[str, typer.Argument(help="In English.")],
    chinese: str = typer.Option("", "--zh", help="The same in Chinese."),
    store: str = typer.Option(
        DEFAULT_STORE, envvar="RESTANTE_STORE", help="sqlite:PATH or redis://...; may be in use."
    ),
    state: str = _STATE,
) -> None:
    """Tell everybody who uses the relay: signed by it, public, and the same for all."""
    texts = {"en": text, "zh": chinese} if chinese else {"en": text}
    try:
        announcements.leave(_store(store, state), announcements.Announcement(kind, texts))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except OSError as error:
        sys.exit(f"restante: cannot write beside the store: {error.strerror}")


@cli.command()
def disclose(
    ground: Annotated[Ground, typer.Option(help="Why it is lawful.")],
    mailbox: Annotated[str, typer.Option(help="Whose: the mailbox's id, hexadecimal.")],
    field: Annotated[list[str], typer.Option(help="What: a name in docs/data.md, such as mailbox.id. Repeatable.")],
    to: Annotated[str, typer.Option(help="Who receives it.")],
    reason: Annotated[str, typer.Option(help="Such as a file number. The owner reads it.")],
    barred_until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC day until which the owner may not be told.")
    ] = None,
    wait: float = typer.Option(30.0, min=0, help="Seconds to wait for the relay."),
    store: str = typer.Option(
        DEFAULT_STORE, envvar="RESTANTE_STORE", help="sqlite:PATH or redis://...; may be in use."
    ),
    state: str = _STATE,
) -> None:
    """Hand data of a mailbox to others, on a legal ground: logged, and its owner is told. There is no other way."""
    barred = int(barred_until.replace(tzinfo=UTC).timestamp()) if barred_until else 0
    try:
        request = Request(new_id(), ground, bytes.fromhex(mailbox), tuple(field), to, reason, barred)
        answer = disclosures.leave(_store(store, state), request)
    except (ValueError, NotDisclosed) as error:
        raise typer.BadParameter(str(error)) from None
    except OSError as error:
        sys.exit(f"restante: cannot write beside the store: {error.strerror}")
    until = time.monotonic() + wait
    while not answer.exists():
        if time.monotonic() >= until:
            sys.exit(f"restante: no relay has answered yet; the answer will be in {answer}")
        time.sleep(0.05)
    if (refused := disclosures.refusal(answer)) is not None:
        answer.unlink()
        sys.exit(f"restante: nothing is handed out: {refused}")
    print(answer)  # noqa: T201 -- the command's result


@cli.command()
def doctor(
    store: str = typer.Option(DEFAULT_STORE, envvar="RESTANTE_STORE", help="sqlite:PATH or redis://..."),
    state: str = _STATE,
    url: str = typer.Option("", help="A running relay to try a round trip with."),
    oprf_key: str = typer.Option("", envvar="RESTANTE_OPRF_KEY", help="File of the directory's secret."),
    processor: Annotated[list[str] | None, typer.Option(help="As for serve: push services are looked at.")] = None,
    push_private: bool = typer.Option(False, "--push-private", envvar="RESTANTE_PUSH_PRIVATE", help="As for serve."),
) -> None:
    """Check this machine, and with --url a running relay."""
    try:
        declared = [processors.parse(each) for each in processor or parse_several(os.environ.get(_PROCESSOR, ""))]
    except SettingError as error:
        raise typer.BadParameter(str(error)) from None
    healthy = True
    place, redis = _store(store, state), store if is_redis(store) else ""
    key = Path(oprf_key) if oprf_key else None
    for finding in checks.examine(place, url, redis, key, declared, push_private=push_private):
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name}: {finding.text}")  # noqa: T201 -- the command's result
        healthy &= finding.ok
    sys.exit(0 if healthy else 1)


@cli.command("bench")
def bench_command(
    url: Annotated[str, typer.Argument(help="Of a relay whose operator allows it: --bench-seconds.")],
) -> None:
    """Measure a running relay, within the limits that its operator set."""
    try:
        print(bench.run(url))  # noqa: T201 -- the command's result
    except bench.Refusal as refusal:
        sys.exit(f"restante: {refusal}")


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
