"""What does a person see of a verb's result?

One function a verb, from the dict that `--json` prints to lines and tables on standard output. What matters most
stands first, and whatever is not well says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mirrord.cli.talk import Talk, row
from mirrord.cli.words import age, ago, clock, listed, many, size
from mirrord.manifest import unstamp

Found = Mapping[str, Any]

_VERDICTS = {"up": "green", "down": "bold red", "unknown": "yellow"}
_RESULTS = {"published": "green", "unchanged": "green", "planned": "cyan", "failed": "bold red", "refused": "bold red"}


# -- how things stand


def status(talk: Talk, found: Found) -> None:
    """One screen: is the site protected, what serves what, and why anything is not well."""
    place = f" at {found['place']}" if found["place"] else ""
    talk.line(f"{found['site']}  {found['url']}  seen from {found['controller']}{place}, {clock(found['at'])}", "bold")
    ok, why = found["protected"]["ok"], found["protected"]["why"]
    if ok:
        talk.line(f"protected{f': {why}' if why else ''}", "green")
    else:
        talk.line(f"NOT PROTECTED: {why}", "bold red")
    if not found["daemon"]["running"]:
        talk.line("no daemon: this is what was last written down; `mirrord check` looks now", "yellow")
    talk.line(_published(found))
    if found["publishing"]["held"]:
        talk.line(f"publishing is {_held(found['publishing']['held'])}", "yellow")
    talk.line()
    _mirrors(talk, found["mirrors"])
    for service in found["services"]:
        talk.line()
        _service(talk, service)
    for ask in found["asks"]:
        talk.line()
        _question(talk, ask)
    if found["warnings"]:
        talk.line()
    for warning in found["warnings"]:
        talk.line(f"warning: {warning}", "yellow")


def _published(found: Found) -> str:
    snapshot = found["snapshot"]
    if snapshot is None:
        return "no snapshot was taken on this machine yet"
    text = (
        f"newest snapshot {snapshot['id']}, serial {snapshot['serial']}, taken {ago(snapshot['created'])} ago: "
        f"{many(snapshot['files'], 'file')}, {size(snapshot['bytes'])}"
    )
    if snapshot["restores"]:
        text += f"; brings back {snapshot['restores']}"
    if snapshot["overdue"]:
        text += f"; the next one was promised for {clock(snapshot['next_expected'])}"
    return text


def _mirrors(talk: Talk, mirrors: Iterable[Found]) -> None:
    table = talk.table("MIRROR", "PLACE", "VERDICT", "SERVES", "SINCE", "WHY")
    for mirror in mirrors:
        name = mirror["name"] + (" (primary)" if mirror["role"] == "primary" else "")
        row(
            table,
            name,
            mirror["place"] or "",
            _verdict(mirror),
            f"serial {mirror['serial']}" if mirror["serial"] is not None else "",
            ago(mirror["since"]),
            "; ".join(_not_well(mirror)),
        )
    talk.show(table)


def _verdict(mirror: Found) -> tuple[str, str]:
    text = mirror["verdict"]
    if mirror["class"] and mirror["class"] != "current":
        text += f", {mirror['class']}"
    style = _VERDICTS.get(mirror["verdict"], "")
    return text, "yellow" if mirror["verdict"] == "up" and "," in text else style


def _not_well(mirror: Found) -> list[str]:
    said = [mirror["cause"]] if mirror["cause"] else []
    if mirror["drained"]:
        said.append(f"drained by {mirror['drained']['by']}{_because(mirror['drained']['reason'])}")
    said += [f"{address} is bad: {why}" for address, why in mirror["degraded"].items()]
    if mirror["suspects"]:
        said.append(f"{many(len(mirror['suspects']), 'file')} under suspicion: {listed(mirror['suspects'][:3])}")
    published = mirror["published"]
    if published and published["error"]:
        said.append(f"last publish ({ago(published['at'])} ago): {published['error']}")
    return [*said, *mirror["warnings"]]


def _service(talk: Talk, service: Found) -> None:
    target = service["target"] or _nobody(service)
    since = f" for {ago(service['since'])}" if service["since"] else ""
    talk.line(f"{service['name']} -> {target}{since}", "bold")
    if service["pending"]:
        pending = service["pending"]
        talk.line(
            f"  a move to {pending['target']} was sent {ago(pending['since'])} ago and its outcome is unknown",
            "bold red",
        )
    if service["zone"]["state"] in ("reverted", "foreign", "unread"):
        talk.line(f"  the zone is {service['zone']['state']}: {service['zone']['text']}", "bold red")
    if service["decision"]:
        said = {"stay": "stays", "move": f"is to move to {service['move_to']}", "ask": "asks"}[service["decision"]]
        talk.line(f"  {said}: {service['reason']}", "bold red" if service["alarm"] else "")
    if service["held"]:
        talk.line(f"  {_held(service['held'])}", "yellow")
    if service["fence"] != "atomic":
        talk.line(f"  {_best_effort(service)}")
    if service["lagging"]:
        talk.line(f"  still the old data at {listed(service['lagging'])}", "yellow")
    if service["readers_follow_by"] and unstamp(service["readers_follow_by"]).timestamp() > time.time():
        talk.line(f"  readers follow by {clock(service['readers_follow_by'])}")


def _nobody(service: Found) -> str:
    return "nobody knows whom" if service["zone"]["state"] == "unread" else "nobody of ours"


def _question(talk: Talk, ask: Found) -> None:
    talk.line(f"{ask['service']} asks since {ago(ask['since'])}: {ask['question']}", "bold yellow")
    for fact in ask["facts"]:
        talk.line(f"  {fact}")
    talk.line(f"  yes: mirrord ack {ask['id']}    no: mirrord ack {ask['id']} --no")


def _held(held: Found) -> str:
    until = f" until {clock(held['until'])}" if held["until"] else ""
    return f"held{until} by {held['by']} since {clock(held['since'])}{_because(held['reason'])}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


# -- content goes out


def sync_with_paths(talk: Talk, found: Found) -> None:
    """The same as `sync`, and before it which files a plan would send, patch and remove."""
    for mirror in found["mirrors"]:
        if mirror.get("plan"):
            _planned(talk, mirror["name"], mirror["plan"])
    sync(talk, found)


def _planned(talk: Talk, name: str, plan: Found) -> None:
    talk.line(f"{name}: in place of {plan['instead_of'] or 'nothing'}")
    kinds = (("sent", "+", "green"), ("patched", "~", ""), ("moved", ">", ""), ("removed", "-", "red"))
    for kind, sign, style in kinds:
        for path in plan[kind]["paths"]:
            talk.line(f"  {sign} {path}", style)
        if (more := plan[kind]["files"] - len(plan[kind]["paths"])) > 0:
            talk.line(f"  {sign} and {more:,} more", style)


def sync(talk: Talk, found: Found) -> None:
    """What was taken, and how it went on every mirror."""
    _taken(talk, found)
    table = talk.table("MIRROR", "RESULT", "VERIFIED", "SENT", "LINKED", "PATCHED", "REMOVED", "BYTES", "TOOK", "WHY")
    for mirror in found["mirrors"]:
        row(
            table,
            mirror["name"],
            (mirror["result"], _RESULTS.get(mirror["result"], "")),
            mirror["verified"] or "",
            f"{mirror['files_sent']:,}",
            f"{mirror['files_linked']:,}",
            f"{mirror['files_patched']:,}",
            f"{mirror['files_removed']:,}",
            size(mirror["bytes_sent"]),
            _took(mirror["seconds"]),
            mirror["error"] or "",
        )
    talk.show(table)
    for mirror in found["mirrors"]:
        _noticed(talk, mirror)
    if found.get("skew_seconds") is not None:
        led = sum(mirror["result"] == "published" for mirror in found["mirrors"])
        talk.line(f"readers of {led} mirrors were led over within {found['skew_seconds']:.2f} s")
    if found["dry_run"]:
        talk.line("nothing was changed (--dry-run)")
        if plan := found.get("plan"):
            lifted = ", removals allowed" if plan["allow_deletions"] else ""
            talk.line(f"plan {plan['id']}{lifted}: `{plan['carry_out']}` does exactly this, or refuses")
    if found.get("held"):
        talk.line("automatic snapshots are held; `mirrord sync` publishes the source again", "yellow")


def _noticed(talk: Talk, mirror: Found) -> None:
    """Say what readers could notice of a switch that was not one step, and why it was not."""
    mixture, gap = mirror["mixture_seconds"], mirror["gap_seconds"]
    noticed = []
    if mixture > 0:
        noticed.append(f"files of two releases for {_short(mixture)}")
    if gap > 0:
        noticed.append(f"{'a file missing' if mixture > 0 else 'nothing'} for {_short(gap)}")
    if noticed:
        layout = f"layout {mirror['layout']}: {mirror['layout_why']}"
        talk.line(f"{mirror['name']}: readers could see {' and '.join(noticed)} ({layout})", "yellow")


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else _took(seconds)


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else age(seconds)


def snapshot(talk: Talk, found: Found) -> None:
    """What was taken."""
    _taken(talk, found)


def _taken(talk: Talk, found: Found) -> None:
    taken, change = found["snapshot"], found.get("change")
    if change is not None and any(change[kind] for kind in ("added", "changed", "removed")):
        _change(talk, change)
    if found.get("restores"):
        talk.line(f"brings back the content of {found['restores']}")
    if taken is None or taken["id"] is None:
        return
    what = "took" if taken["changed"] else "nothing changed since"
    talk.line(
        f"{what} snapshot {taken['id']}, serial {taken['serial']}: "
        f"{many(taken['files'], 'file')}, {size(taken['bytes'])}"
    )


def _change(talk: Talk, change: Found) -> None:
    talk.line(
        f"{many(change['added'], 'file')} added, {change['changed']:,} changed"
        + (f" ({change['emptied']:,} of them emptied)" if change["emptied"] else "")
        + f", {change['removed']:,} removed"
    )
    for kind, sign, style in (("added", "+", "green"), ("changed", "~", ""), ("removed", "-", "red")):
        for path in change["paths"][kind]:
            talk.line(f"  {sign} {path}", style)
        if (more := change[kind] - len(change["paths"][kind])) > 0:
            talk.line(f"  {sign} and {more:,} more", style)


def snapshots(talk: Talk, found: Found) -> None:
    """What the store has, newest last."""
    if not found["snapshots"]:
        talk.line("no snapshot was taken on this machine yet; `mirrord snapshot` takes one")
        return
    table = talk.table("SERIAL", "SNAPSHOT", "TAKEN", "FILES", "SIZE", "WHAT")
    for one in found["snapshots"]:
        notes = [f"served by {listed(one['served_by'])}"] if one["served_by"] else []
        notes += [f"brings back {one['restores']}"] if one["restores"] else []
        notes += ["pinned"] if one["pinned"] else []
        row(
            table,
            str(one["serial"]),
            one["id"],
            f"{ago(one['created'])} ago",
            f"{one['files']:,}",
            size(one["bytes"]),
            "; ".join(notes),
        )
    talk.show(table)


def pinned(talk: Talk, found: Found) -> None:
    """Whether a snapshot is kept whatever its age, and whether that is news."""
    now, before = ("is pinned", "was pinned already") if found["pinned"] else ("is no longer pinned", "was not pinned")
    talk.line(f"{found['snapshot']} {now if found['changed'] else before}")


# -- attention comes back


def check(talk: Talk, found: Found) -> None:
    """What one look at every mirror showed."""
    for warning in found["warnings"]:
        talk.line(f"warning: {warning}", "yellow")
    silent = list(dict.fromkeys(ref["address"] for ref in found["references"] if not ref["reachable"]))
    if silent:
        talk.line(f"references that do not answer: {listed(silent)}", "yellow")
    for mirror in found["mirrors"]:
        text, style = _verdict(mirror)
        talk.line(f"{mirror['name']}: {text}{_because(mirror['cause'] or '')}", style)
        for look in mirror["looks"]:
            where = f"{look['name']} at {look['address']}"
            right = f", {many(look['files_right'], 'file')} right" if look["files_right"] else ""
            talk.line(f"  {where}: {look['text']}{right} ({look['seconds']:.1f} s)", "" if look["ok"] else "red")
            for wrong in look["files_wrong"]:
                talk.line(f"    {wrong['path']}: {wrong['why']}", "red")


def replayed(talk: Talk, found: Found) -> None:
    """What was decided some time ago, on what it rested, and whether today's rules say the same."""
    for service in found["services"]:
        talk.line(f"{service['name']} at {service['at']}, as written down at {service['kept']}:", "bold")
        for sentence in service["facts"]:
            talk.line(f"  {sentence}")
        for mirror, looks in service["looks"].items():
            for look in looks:
                what = look["fault"][1] if look["fault"] else "well"
                talk.line(f"    {mirror}: {look['name']} at {look['address']}: {what} ({look['took']:.1f} s)", "dim")
        decided = service["decided"]
        talk.line(f"  decided then: {decided['kind']}: {decided['reason']}")
        if not service["same"]:
            talk.line(f"  today's rules say: {service['again']['kind']}: {service['again']['reason']}", "yellow")


def drilled(talk: Talk, found: Found) -> None:
    """How drills went, step by step."""
    for drill in found["drills"]:
        verdict = "would have helped readers" if drill["ok"] else "would NOT have helped readers"
        way = f" from {drill['from']} to {drill['to']}" if drill["to"] else ""
        talk.line(f"{drill['service']}: a failover{way} {verdict} ({drill['seconds']:.1f} s)", _good(ok=drill["ok"]))
        table = talk.table("STEP", "SECONDS", "HOW IT ENDED")
        for step in drill["steps"]:
            row(
                table, step["name"], f"{step['seconds']:.2f}", step["text"] if step["ok"] else f"FAILED: {step['text']}"
            )
        talk.show(table)
    for left in found.get("left_out", ()):
        talk.line(f"not rehearsed: {left['why']}", "yellow")


def _good(*, ok: bool) -> str:
    return "green" if ok else "red"


def explain(talk: Talk, found: Found) -> None:
    """What would be decided now, and what it rests on."""
    if not found["services"]:
        talk.line("no [[service]] is configured: nothing is ever decided")
    for number, service in enumerate(found["services"]):
        if number:
            talk.line()
        serving = service["serving"] or _nobody(service)
        talk.line(f"{service['name']}: readers are sent to {serving}", "bold")
        said = {"stay": "stays", "move": f"would move to {service['target']}", "ask": "would ask"}
        if service["decision"]:
            talk.line(f"{said[service['decision']]}: {service['reason']}")
        for fact in dict.fromkeys(service["facts"]):
            talk.line(f"  {fact}")
        if service["held"]:
            talk.line(_held(service["held"]), "yellow")
        talk.line(f"the zone is {service['zone']['state']}: {service['zone']['text']}")
        protection = service["protected"]
        talk.line(
            f"{'protected' if protection['ok'] else 'NOT PROTECTED'}{_because(protection['why'])}",
            "green" if protection["ok"] else "bold red",
        )
        _candidates(talk, service)


def _candidates(talk: Talk, service: Found) -> None:
    table = talk.table("ORDER", "MIRROR", "VERDICT", "SINCE", "WHY")
    for number, mirror in enumerate(service["mirrors"], 1):
        why = [mirror["cause"]] if mirror["cause"] else []
        why += ["drained"] if mirror["drained"] else []
        why += [f"brake {brake['brake']}: {brake['text']}" for brake in mirror["brakes"]]
        row(table, str(number), mirror["name"], _verdict(mirror), ago(mirror["since"]), "; ".join(why))
    talk.show(table)


# -- readers are moved


def planned(found: Found, line: Callable[[str, str], None]) -> None:
    """Show a switch before it is made, by `line` (to standard output, or to the person only)."""
    service, target = found["service"], found["target"]
    if found["change"] is None and not found["brakes"]:
        line(f"{service}: nothing to change, readers are sent to {target} already", "bold")
        return
    line(f"{service}: from {found['serving'] or 'nobody of ours'} to {target}", "bold")
    for name, after in found["after"].items():
        before = found["before"].get(name, {"a": [], "aaaa": [], "ttl": 0, "fence": None})
        for kind in ("a", "aaaa"):
            if before[kind] or after[kind]:
                what = "next hop" if "/" in name else kind.upper()
                line(f"  {name} {what}: {_addresses(before[kind])} -> {_addresses(after[kind])}", "")
        for kind in ("https", "mx"):
            if before.get(kind) != after.get(kind):
                told = (" | ".join(names.get(kind, ())) or "nothing" for names in (before, after))
                line(f"  {name} {kind.upper()}: {' -> '.join(told)}", "")
        if before["ttl"] != after["ttl"]:
            line(f"  {name} TTL: {before['ttl']} s -> {after['ttl']} s", "")
        if before["fence"] != after["fence"]:
            where = f"{name} plan" if "/" in name else f"_mirrord.{name} TXT"
            line(f"  {where}: {before['fence'] or 'none'} -> {after['fence'] or 'none'}", "dim")
    if found["zone"]["state"] not in ("ours", "new"):
        line(f"  the zone is {found['zone']['state']}: {found['zone']['text']}", "yellow")
    if found["fence"] != "atomic":
        line(f"  {_best_effort(found)}: a change made by somebody else at this moment is lost", "yellow")
    for note in found["notes"]:
        line(f"  note: {note}", "yellow")
    for brake in found["brakes"]:
        if brake["lifted"]:
            line(f"  brake {brake['brake']}, lifted: {brake['text']}", "yellow")
        else:
            way = f" (--override {brake['brake']} lifts it)" if brake["liftable"] else " (cannot be lifted)"
            line(f"  brake {brake['brake']}: {brake['text']}{way}", "bold red")
    if found["change"] is not None and found["readers_follow_in"]:
        line(f"  readers follow within {age(found['readers_follow_in'])}", "")


def _best_effort(found: Found) -> str:
    return f"fence = {found['fence']}: this system cannot compare and set"


def _addresses(addresses: list[str]) -> str:
    return ", ".join(addresses) or "none"


def moved(talk: Talk, found: Found) -> None:
    """How a switch ended, and where it has arrived."""
    styles = {"done": "green", "partial": "yellow"}
    talk.line(f"{found['result']}: {found['text']}", styles.get(found["result"], "bold red"))
    words = {"new": "has the new data", "old": "still gives the old data", "unreachable": "does not answer"}
    for server in found["servers"]:
        text = server["text"] or words[server["state"]]
        own = text if text.startswith(server["address"]) else f"{server['address']}: {text}"
        talk.line(f"  {own}", "" if server["state"] == "new" else "yellow")
    if found.get("fence", "atomic") != "atomic" and found["epoch"] is not None:
        talk.line(f"  {_best_effort(found)}")
    for one in found.get("evidence", ()):
        talk.line(f"  {one['text']}", "" if one["ok"] else "yellow")
    if found["readers_follow_by"]:
        talk.line(f"readers follow by {clock(found['readers_follow_by'])}")


# -- orders


def holds(talk: Talk, found: Found) -> None:
    """Which holds were set."""
    for held in found["holds"]:
        talk.line(f"{held['what']} is {_held(held)}")
    only = f" {found['holds'][0]['what']}" if len(found["holds"]) == 1 else ""
    talk.line(f"mirrord goes on looking and judging; `mirrord unhold{only}` ends it")


def unheld(talk: Talk, found: Found) -> None:
    """Which holds were ended."""
    for held in found["ended"]:
        talk.line(f"{held['what']} is no longer held (it was by {held['by']}{_because(held['reason'])})")
    if not found["ended"]:
        talk.line("nothing was held")


def history(talk: Talk, found: Found) -> None:
    """What happened, newest last."""
    if not found["events"]:
        talk.line("nothing is written down for that time")
        return
    table = talk.table("WHEN", "WHAT", "BY")
    for event in found["events"]:
        what = event["what"] + (f" ({event['why']})" if event["why"] else "")
        row(table, clock(event["when"]), what, event["by"])
    talk.show(table)
