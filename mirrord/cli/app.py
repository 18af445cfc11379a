"""Which verbs are there, and which options do they take?

One function a verb: its signature is the command line, its docstring the help. Each asks the desk, shows the result and
returns the exit code. Imports stand inside, so that `--help` loads no library.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mirrord import __version__
from mirrord.cli.asking import Asking, alone, at_desk, duration, moment, options
from mirrord.cli.talk import Talk
from mirrord.errors import BadUsage

LOOK, PUBLISH, MOVE, ORDER, SET_UP = (
    "How things stand",
    "Content goes out",
    "Readers are moved",
    "Orders and answers",
    "This machine",
)

app = typer.Typer(
    name="mirrord",
    help="Keeps a website readable when the datacentre that serves it is gone.",
    epilog="At night: `mirrord status` says what is wrong, `mirrord explain` why nothing moves, "
    "`mirrord switch SERVICE MIRROR` moves readers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    add_help_option=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config = typer.Typer(help="Check, show or begin the configuration.")
app.add_typer(config, name="config", rich_help_panel=SET_UP)
mirror = typer.Typer(help="Try what a mirror can do, before it matters.")
app.add_typer(mirror, name="mirror", rich_help_panel=SET_UP)

# An empty metavar for every flag: Typer would write "<bool>", as if a value had to follow.
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one JSON object; everything else goes to standard error.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Answer every question with yes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", metavar="", help="Show what would be done, change nothing.")]
Mirrors = Annotated[
    list[str] | None, typer.Argument(metavar="[MIRROR]...", help="Only these mirrors.", show_default=False)
]
OneSnapshot = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="Its id, the beginning of it, or its serial.", show_default=False)
]
AllowDeletions = Annotated[
    bool, typer.Option("--allow-deletions", metavar="", help="Publish although much was removed; lifts no other brake.")
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever looks next.", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mirrord {__version__}")
        raise typer.Exit


def _help(context: typer.Context, asked: bool) -> None:
    """Typer's own option, before a verb, has Typer load pydantic for it; this one does not."""
    if asked:
        typer.echo(context.get_help())
        raise typer.Exit


@app.callback()
def before(
    context: typer.Context,
    config_file: Annotated[  # noqa: ARG001 - it stands here for --help; `ending` has taken it out
        bool,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration; else $MIRRORD_CONFIG, else /etc/mirrord/mirrord.toml.",
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", metavar="", help="Say more of what is being done.")
    ] = False,
    as_json: Json = False,  # noqa: ARG001 - the same
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    usage: Annotated[  # noqa: ARG001 - the same
        bool,
        typer.Option("--help", "-h", metavar="", callback=_help, is_eager=True, help="Show this message and exit."),
    ] = False,
) -> None:
    """Take what stands before the verb."""
    from mirrord.cli.logs import to_standard_error

    quiet = logging.INFO if context.invoked_subcommand == "run" else logging.ERROR
    to_standard_error(logging.DEBUG if verbose else quiet)


# -- how things stand


@app.command(rich_help_panel=LOOK)
def status(context: typer.Context, as_json: Json = False) -> int:
    """One screen: is the site protected, what does each mirror serve, and why is anything not well?"""
    from mirrord.cli import screens

    def act(asking: Asking) -> int:
        asking.show(asking.call("status"), screens.status)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=LOOK)
def check(context: typer.Context, mirrors: Mirrors = None, as_json: Json = False) -> int:
    """Look at the mirrors now, as a reader would, and judge.

    Exit code: 0 all are up, 3 some are, 1 none is.
    """
    from mirrord.cli import outcome, screens

    def act(asking: Asking) -> int:
        found = asking.call("check", mirrors=mirrors or [])
        asking.show(found, screens.check)
        return outcome.counted(mirror["verdict"] == "up" for mirror in found["mirrors"])

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=LOOK)
def explain(
    context: typer.Context,
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE]", help="Only this service.", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="As it was then: 03:15, 2026-11-22 03:15.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Say what would be decided now, or was decided then, and why; moves nobody."""
    from mirrord.cli import screens

    when = moment(at, "--at")

    def act(asking: Asking) -> int:
        if when is not None:
            asking.show(asking.call("explain", service=service, at=when), screens.replayed)
        else:
            asking.show(asking.call("explain", service=service), screens.explain)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=LOOK)
def history(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1_000_000, help="So many events at most.")] = 50,
    back: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help="Only the last 2h, 7d ...", show_default=False)
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this kind: move, verdict, publish, hold ...", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Say what happened, when, why and by whom; newest last."""
    from mirrord.cli import screens

    seconds = duration(back, "--since")

    def act(asking: Asking) -> int:
        found = asking.call("history", limit=limit, seconds=seconds, kinds=kind or [])
        asking.show(found, screens.history)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=LOOK)
def doctor(context: typer.Context, as_json: Json = False) -> int:
    """Say what will break next, in days: asks every mirror and name server, changes nothing.

    Exit code: 0 nothing is broken, 1 something is.
    """
    from mirrord.cli.doctor import examine

    return alone(context, as_json, lambda talk: examine(talk, options(context).file))


@app.command(rich_help_panel=LOOK)
def verify(
    context: typer.Context,
    where: Annotated[str, typer.Argument(metavar="URL or DIR", help="The copy: where it is served, or a folder.")],
    key: Annotated[
        str | None,
        typer.Option(metavar="FILE or LINE", help="The publisher's public key (ssh-ed25519 ...).", show_default=False),
    ] = None,
    signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An allowed_signers file, as for ssh-keygen -Y verify.", show_default=False),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who must have signed: the site's host name. Else anybody with the key.",
            show_default=False,
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Authorities to trust in https.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Judge any copy of a site: intact, outdated, altered or unverifiable.

    Needs the publisher's public key and nothing else; where there is a
    configuration, its own key is taken.

    Exit code: 0 every byte is as it was signed, 4 it is not or nobody can tell.
    """
    from mirrord.cli import verify as verifying

    return alone(
        context,
        as_json,
        lambda talk: verifying.verify(
            talk, where, options(context).file, key=key, signers=signers, identity=identity, ca_file=ca_file
        ),
    )


# -- content goes out


@app.command(rich_help_panel=PUBLISH)
def sync(
    context: typer.Context,
    mirrors: Mirrors = None,
    dry_run: DryRun = False,
    allow_deletions: AllowDeletions = False,
    plan: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Do exactly what a dry run showed, or refuse.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Take a snapshot if the source changed, and publish it.

    Exit code: 0 every mirror has it, 3 some have, 1 none has,
    5 a brake holds, 10 another mirrord is at it, 75 try again later.
    """
    from mirrord.cli import outcome, screens

    def act(asking: Asking) -> int:
        shown = {} if plan is None else {"plan": plan}
        found = asking.call("sync", mirrors=mirrors or [], dry_run=dry_run, allow_deletions=allow_deletions, **shown)
        asking.show(found, screens.sync if not context.find_root().params["verbose"] else screens.sync_with_paths)
        return outcome.of_rows(found["mirrors"])

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=PUBLISH)
def snapshot(
    context: typer.Context,
    dry_run: DryRun = False,
    allow_deletions: AllowDeletions = False,
    as_json: Json = False,
) -> int:
    """Take a snapshot if the source changed; publish nothing."""
    from mirrord.cli import screens

    def act(asking: Asking) -> int:
        found = asking.call("snapshot", dry_run=dry_run, allow_deletions=allow_deletions)
        asking.show(found, screens.snapshot)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=PUBLISH)
def snapshots(context: typer.Context, as_json: Json = False) -> int:
    """List the snapshots that are kept here; newest last."""
    from mirrord.cli import screens

    def act(asking: Asking) -> int:
        asking.show(asking.call("snapshots"), screens.snapshots)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=PUBLISH)
def pin(context: typer.Context, snapshot: OneSnapshot, as_json: Json = False) -> int:
    """Keep a snapshot whatever its age, here and on the mirrors that have it; it never makes room for another."""
    return _pin("pin", context, snapshot, as_json)


@app.command(rich_help_panel=PUBLISH)
def unpin(context: typer.Context, snapshot: OneSnapshot, as_json: Json = False) -> int:
    """Keep a pinned snapshot no longer than any other."""
    return _pin("unpin", context, snapshot, as_json)


def _pin(verb: str, context: typer.Context, snapshot: str, as_json: bool) -> int:
    from mirrord.cli import screens

    def act(asking: Asking) -> int:
        asking.show(asking.call(verb, snapshot=snapshot), screens.pinned)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=PUBLISH)
def rollback(
    context: typer.Context,
    snapshot: OneSnapshot,
    mirrors: Mirrors = None,
    dry_run: DryRun = False,
    allow_deletions: AllowDeletions = False,
    as_json: Json = False,
) -> int:
    """Publish an earlier content as a new snapshot, and hold automatic ones until `mirrord sync`."""
    from mirrord.cli import outcome, screens

    def act(asking: Asking) -> int:
        found = asking.call(
            "rollback", snapshot=snapshot, mirrors=mirrors or [], dry_run=dry_run, allow_deletions=allow_deletions
        )
        asking.show(found, screens.sync)
        return outcome.of_rows(found["mirrors"])

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=PUBLISH)
def restore(
    context: typer.Context,
    snapshot: OneSnapshot,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    as_json: Json = False,
) -> int:
    """Write a snapshot's files into a folder."""
    from mirrord.cli.restoring import restore_snapshot

    return alone(context, as_json, lambda talk: restore_snapshot(talk, context, snapshot, directory))


# -- readers are moved


@app.command(rich_help_panel=MOVE)
def switch(
    context: typer.Context,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Whose readers.")],
    mirror: Annotated[
        str | None, typer.Argument(metavar="MIRROR", help="Where to; may be left out with --adopt.", show_default=False)
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", metavar="", help="Take what stands in the zone as ours, whoever wrote it.")
    ] = False,
    override: Annotated[
        str | None,
        typer.Option(
            metavar="BRAKE",
            help="Lift this one brake: down, stale, bad-content, tls, foreign or no-network.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Move a service's readers to a mirror: shows before and after, asks, then does it.

    Exit code: 0 every name server has it, 3 some still give the old data,
    5 a brake holds or somebody else was faster, 75 unknown (mirrord finds out).
    """
    from mirrord.cli.moving import switch_readers

    return at_desk(
        context,
        as_json,
        lambda asking: switch_readers(
            asking, service, mirror, yes=yes, dry_run=dry_run, adopt=adopt, override=override
        ),
    )


@app.command(rich_help_panel=MOVE)
def drill(
    context: typer.Context,
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE]", help="Only this service.", show_default=False)
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Rehearse a failover on the name drill.NAME beside each of a service's names; moves no reader.

    Exit code: 0 it would have helped readers, 1 it would not.
    """
    from mirrord.cli.moving import drill_services

    return at_desk(context, as_json, lambda asking: drill_services(asking, service, yes=yes))


@app.command(rich_help_panel=MOVE)
def drain(
    context: typer.Context,
    mirror: Annotated[str, typer.Argument(metavar="MIRROR", help="The mirror to take out of consideration.")],
    reason: Reason = "",
    yes: Yes = False,
    stay: Annotated[bool, typer.Option("--stay", metavar="", help="Leave readers there that are there now.")] = False,
    as_json: Json = False,
) -> int:
    """Take a mirror out of consideration; offers to move its readers first."""
    from mirrord.cli.moving import drain_mirror

    return at_desk(context, as_json, lambda asking: drain_mirror(asking, mirror, reason, yes=yes, stay=stay))


@app.command(rich_help_panel=MOVE)
def undrain(
    context: typer.Context,
    mirror: Annotated[str, typer.Argument(metavar="MIRROR", help="The mirror to take back.")],
    as_json: Json = False,
) -> int:
    """Take a drained mirror back into consideration."""

    def act(asking: Asking) -> int:
        found = asking.call("undrain", mirror=mirror)
        text = f"{mirror} is considered again" if found["changed"] else f"{mirror} was not drained"
        asking.show(found, lambda talk, _: talk.line(text))
        return 0

    return at_desk(context, as_json, act)


# -- orders and answers


@app.command(rich_help_panel=ORDER)
def hold(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[publishing|SERVICE]", help="What; without it, everything.", show_default=False),
    ] = None,
    reason: Reason = "",
    during: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="2h, 7d ...; else until unhold.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Stop automatic acts: moves of a service, or publishing. Looking and judging go on."""
    from mirrord.cli import screens

    seconds = duration(during, "--for")
    if seconds == 0:
        raise BadUsage(f'--for: should be longer than that, is "{during}"')

    def act(asking: Asking) -> int:
        found = asking.call("hold", what=what, reason=reason, seconds=seconds)
        asking.show(found, screens.holds)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=ORDER)
def unhold(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[publishing|SERVICE]", help="What; without it, everything.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Let mirrord act by itself again."""
    from mirrord.cli import screens

    def act(asking: Asking) -> int:
        asking.show(asking.call("unhold", what=what), screens.unheld)
        return 0

    return at_desk(context, as_json, act)


@app.command(rich_help_panel=ORDER)
def ack(
    context: typer.Context,
    question: Annotated[str, typer.Argument(metavar="ID", help="The question's id, from `mirrord status`.")],
    no: Annotated[bool, typer.Option("--no", metavar="", help="Answer no; without it the answer is yes.")] = False,
    as_json: Json = False,
) -> int:
    """Answer what mirrord asks."""

    def act(asking: Asking) -> int:
        found = asking.call("ack", id=question, answer="no" if no else "yes")
        asking.show(found, lambda talk, _: talk.line(f"{found['answer']}: {found['text']}"))
        return 0

    return at_desk(context, as_json, act)


# -- this machine


@app.command(rich_help_panel=SET_UP)
def run(context: typer.Context, as_json: Json = False) -> int:
    """Be the daemon, in the foreground; for systemd."""

    def act(_: Talk) -> int:
        from mirrord.config import find
        from mirrord.daemon import serve

        return serve(find(options(context).file))

    return alone(context, as_json, act)


@app.command(rich_help_panel=SET_UP)
def demo(
    context: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep", metavar="", help="Leave it running at the end, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> int:
    """See all of it on this machine in half a minute: hosts, a name server, an outage, the way home."""

    def act(talk: Talk) -> int:
        from mirrord.demo.story import run_demo

        found = run_demo(talk.say if talk.as_json else talk.line, keep=keep)
        if talk.as_json:
            talk.result(found)
        return 0

    return alone(context, as_json, act)


@mirror.command("check")
def mirror_check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The mirror.")],
    as_json: Json = False,
) -> int:
    """Try what the mirror's account can do, and whether its web server serves what is put there.

    Changes nothing that readers see, and leaves nothing behind.

    Exit code: 0 nothing stands in the way, 3 not every address serves it, 1 none does.
    """
    from mirrord.cli import examined

    def act(asking: Asking) -> int:
        found = asking.call("mirror_check", mirror=name)
        asking.show(found, examined.mirror)
        return examined.exit_code(found)

    return at_desk(context, as_json, act)


@config.command("check")
def config_check(
    context: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", metavar="", help="Ask the name servers as well: is any of the names a CNAME?")
    ] = False,
    as_json: Json = False,
) -> int:
    """Say everything that is wrong with the configuration; exit code 78 if it cannot be used."""
    from mirrord.cli.setup import check_file

    return alone(context, as_json, lambda talk: check_file(talk, options(context).file, online=online))


@config.command("show")
def config_show(context: typer.Context, as_json: Json = False) -> int:
    """Print every setting in force, with defaults; secrets only by where they are."""
    from mirrord.cli.setup import show_file

    return alone(context, as_json, lambda talk: show_file(talk, options(context).file))


@config.command("example")
def config_example(context: typer.Context, as_json: Json = False) -> int:
    """Print an example with every setting explained, to begin with."""
    from mirrord.cli.setup import show_example

    return alone(context, as_json, show_example)
