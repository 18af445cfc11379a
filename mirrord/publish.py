"""How does a mirror come to serve a snapshot?

Look, object, plan; then, under the mirror's lock: stage, inspect, meet the others, switch, post, prune. Looking takes
one flight, and where the mirror serves the snapshot already it is the whole work. Nothing is sent before every
objection was heard: a served snapshot that is newer than ours, or too much that would vanish. How each step is done on
a host is said in `mirrord.hosts`; when to publish, with whom, and what follows from a failure, the controller decides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from mirrord.comparing import Comparer
from mirrord.errors import (
    Braked,
    Conflict,
    Full,
    Locked,
    MirrordError,
    PutOff,
    Refused,
    Silent,
    Unavailable,
    Unverified,
)
from mirrord.hosts import (
    NO_GRACE,
    READ_BACK,
    Content,
    Findings,
    Hold,
    Holder,
    Host,
    Inspected,
    Known,
    Linger,
    Progress,
    Staged,
)
from mirrord.hosts.lingering import may_be_over
from mirrord.manifest import (
    LONGEST_PATH,
    MANIFEST_NAME,
    OWN_FOLDER,
    SIGNATURE_SUFFIX,
    Manifest,
    Signed,
    Snapshot,
    SnapshotId,
    show,
)
from mirrord.plan import Compare, Guard, Plan, Survey, brake, foreign_manifest, make_plan
from mirrord.trust.keys import Signers
from mirrord.trust.snapshots import check_manifest, check_signed

Agreed = Callable[[Plan, frozenset[bytes]], None]
"""Raises Braked where a person agreed to something else than this plan, or than sending these files of it whole."""
ATTEMPTS = 4
"""How often a mirror that breaks off is tried before the next regular publish."""
SILENCES = 2
"""How often one is tried that never says a word: each try takes as long as a login may, 30 s."""
_LONGEST_SIGNATURE = 65536
_LONGEST_MANIFEST = 1 << 28


@dataclass(frozen=True, slots=True)
class Published:
    """What became of publishing one snapshot to one mirror; plain values, as `sync --json` has them."""

    mirror: str
    result: str
    """`published`, `unchanged` (it served this content already), `failed` or `refused` (by a brake)."""
    release: str
    serial: int
    files_sent: int = 0
    files_linked: int = 0
    files_patched: int = 0
    files_removed: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    error: str | None = None
    error_code: int = 0
    """The exit code that the error stands for; 0 where there is none."""
    halts: bool = False
    """Publishing by itself must stop until a person has looked: the mirror serves what our state does not know."""
    warnings: tuple[str, ...] = ()
    verified: str | None = None
    """The step of verification that was reached (`mirrord.hosts.Step`); None where nothing was published."""
    files_hashed: int = 0
    """Files of what was sent whose hashes the server told, rightly."""
    files_read_back: int = 0
    """Files of what was sent of which something was read back before the switch, and was right."""
    bytes_read_back: int = 0
    instead_of: str | None = None
    """What readers saw before, where they were led on."""
    layout: str | None = None
    """How the account is laid out; None where nobody could look."""
    layout_why: str | None = None
    mixture_seconds: float = 0.0
    """For how long readers could see files of two releases, as seen from here; 0.0 where the switch is one step."""
    gap_seconds: float = 0.0
    """For how long they found nothing, as seen from here: all of it, or any one file where files are replaced."""
    serves: tuple[int, str] | None = None
    """Serial and id of what the mirror serves instead, validly signed, where that is why it was refused."""
    seen_wrong: Mapping[str, str] = field(default_factory=dict)
    """Files that a reader got wrong after the switch, and how."""

    @classmethod
    def failure(cls, mirror: str, signed: Signed, error: MirrordError, seconds: float) -> Published:
        """Return the result of a publish that ended with an error."""
        return cls(
            mirror,
            "refused" if isinstance(error, Braked) else "failed",
            signed.snapshot.id,
            signed.snapshot.serial,
            seconds=seconds,
            error=str(error),
            error_code=error.exit_code,
            halts=isinstance(error, Braked) and error.brake == "serial",
            serves=error.serves if isinstance(error, Braked) else None,
        )


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a look at a mirror means for a snapshot that it is to serve."""

    survey: Survey
    served: Snapshot | None
    """What the mirror's card says, where its signature holds and it is of this site."""
    before: Manifest | None
    """The files that are served now, where that is known for sure."""
    base: SnapshotId | None
    """The release whose unchanged files can be linked, and whose others can be patched."""
    held: Manifest | None
    """Its files."""
    links: bool = True
    copies: bool = False
    """The mirror makes hard links; it copies between files."""

    def plan(
        self,
        mirror: str,
        target: SnapshotId,
        wanted: Manifest,
        suspects: Collection[bytes] = (),
        compare: Compare | None = None,
    ) -> Plan:
        """Plan what it takes to serve `wanted`; `compare` tells what versions of a file have in common."""
        return make_plan(
            mirror,
            target,
            wanted,
            self.survey.current,
            self.base,
            self.held,
            suspects,
            links=self.links,
            stays=self.survey.layout == "inplace",
            compare=compare if self.copies else None,
        )


def look(host: Host, wanted: Manifest, known: Known, *, signers: Signers, identity: str | None, site: str) -> Outlook:
    """Look at a mirror, and believe of it only what is signed or what we published ourselves."""
    return _judge(host, host.survey(), wanted, known, signers, identity, site)


def _judge(
    host: Host, survey: Survey, wanted: Manifest, known: Known, signers: Signers, identity: str | None, site: str
) -> Outlook:
    served: Snapshot | None = None
    if survey.card is not None and survey.card_sig is not None:
        try:
            served = check_signed(survey.card, survey.card_sig, signers, identity, site)
        except Unverified:
            served = None  # an altered or unsigned card says nothing; what we know ourselves still counts
    before = known(survey.current) if survey.current is not None else None
    if before is None and served is not None and served.id == survey.current:
        before = _read_manifest(host, served, wanted, signers, identity)
    can = host.traits
    outlook = Outlook(survey, served, before, None, None, links=can.hard_link, copies=can.copy_data)
    if survey.whole and before is not None:
        return replace(outlook, base=survey.current, held=before)
    for release in reversed(survey.releases):
        if (held := known(release)) is not None:
            return replace(outlook, base=release, held=held)
    return outlook


def _read_manifest(
    host: Host, served: Snapshot, wanted: Manifest, signers: Signers, identity: str | None
) -> Manifest | None:
    """Read what another controller published, from the mirror itself; None where its signature does not hold."""
    path = OWN_FOLDER + b"/" + MANIFEST_NAME
    limit = min(_LONGEST_MANIFEST, served.files * (2 * LONGEST_PATH + 70))
    try:
        text = b"".join(host.read(served.id, path, limit))
        sig = b"".join(host.read(served.id, path + SIGNATURE_SUFFIX, _LONGEST_SIGNATURE))
        digests = check_manifest(text, sig, served, signers, identity)
    except Unverified:
        return None
    return foreign_manifest(digests, served.size, wanted)


def object_to(mirror: str, outlook: Outlook, signed: Signed, guard: Guard, *, allow_deletions: bool) -> None:
    """Raise Braked where a person must look before anything is sent."""
    doing = f"{mirror}: publishing {signed.snapshot.id}"
    if outlook.survey.obstacle is not None:
        raise Braked(f"{doing}: {outlook.survey.obstacle}", brake="adopt")
    served, ours = outlook.served, signed.snapshot
    if served is not None and (
        served.serial > ours.serial or (served.serial == ours.serial and served.manifest_sha256 != ours.manifest_sha256)
    ):
        raise Braked(
            f"{doing}: it serves {served.id} with serial {served.serial}, signed for this site, and ours has serial"
            f" {ours.serial}: another controller published it, or our state folder is older than it; automatic"
            f" publishing stops. If ours is the right content, `mirrord rollback {ours.id}` publishes it with a higher"
            " serial; if the mirror's is, bring the state folder or the other controller up to date",
            brake="serial",
            serves=(served.serial, served.id),
        )
    if outlook.before is not None and not allow_deletions and (why := brake(outlook.before, signed.manifest, guard)):
        raise Braked(f"{doing}: {why}; if that is meant, `mirrord sync --allow-deletions`", brake="deletions")


@dataclass(frozen=True, slots=True)
class Together:
    """Who waits for whom before readers are led over."""

    needed: int | None = 0
    """Mirrors that must stand ready; 0: nobody waits, None: all of them."""
    wait: float = 600.0
    """Seconds for which the first that stands ready waits at most."""


class Meeting(Protocol):
    """Where publishes to several mirrors meet before readers see anything of them."""

    def ready(self, beat: Callable[[], None]) -> None:
        """Return when readers may be led over: the tree is staged and verified. May be called again after a cut.

        `beat` keeps the mirror's lock; it wants to be called every few seconds, and raises where the mirror is lost.
        """
        ...

    def switched(self) -> None:
        """Take note: readers of this mirror were led over just now."""
        ...


class AtOnce:
    """Waits for nobody; a `Meeting`."""

    def ready(self, beat: Callable[[], None]) -> None:
        """Go on."""

    def switched(self) -> None:
        """Nobody asks."""


@dataclass(frozen=True, slots=True)
class Task:
    """One snapshot for one mirror, and on which terms."""

    me: Holder
    mirror: str
    signed: Signed
    content: Content
    known: Known
    signers: Signers
    identity: str | None
    keep: int
    """Releases that stay on the mirror."""
    guard: Guard = field(default_factory=Guard)
    allow_deletions: bool = False
    mend: bool = False
    """Readers saw the served release altered or incomplete: it is listed and put right."""
    suspects: frozenset[bytes] = frozenset()
    """Paths whose bytes they saw to be wrong, which no listing shows."""
    seen: Callable[[Progress], None] = lambda _: None
    stop: threading.Event | None = None
    meeting: Meeting = field(default_factory=AtOnce)
    read_back: int = READ_BACK
    """Bytes of what was sent that are read back."""

    linger: Linger = NO_GRACE
    """For how long assets of earlier releases stay reachable beside the new one."""
    wall: Callable[[], float] = time.time
    """Unix seconds by our own clock."""

    compare: Compare | None = None
    """What versions of a file have in common; None: found out anew from `content`."""

    pinned: Callable[[], frozenset[SnapshotId]] = frozenset
    """Tells just then which releases are never dropped, neither for their age nor to make room for another."""

    agreed: Agreed = lambda _plan, _whole: None
    """Told of every plan, and once more when it was staged."""

    @property
    def target(self) -> SnapshotId:
        """The snapshot's id."""
        return self.signed.snapshot.id

    @property
    def doing(self) -> str:
        """Who does what, for messages."""
        return f"{self.mirror}: publishing {self.target}"

    def outlook(self, host: Host, survey: Survey) -> Outlook:
        """Judge a survey; raises Braked where a person must look first."""
        site = self.signed.snapshot.site
        outlook = _judge(host, survey, self.signed.manifest, self.known, self.signers, self.identity, site)
        object_to(self.mirror, outlook, self.signed, self.guard, allow_deletions=self.allow_deletions)
        return outlook

    def plan(self, outlook: Outlook) -> Plan:
        """Plan what follows from a look; raises Braked where something else was agreed."""
        compare = self.compare or Comparer(self.content, self.stop)
        plan = outlook.plan(self.mirror, self.target, self.signed.manifest, self.suspects, compare)
        self.agreed(plan, frozenset())
        return plan

    def ended(self, result: str, survey: Survey | None = None) -> Published:
        """Return a result in which nothing was sent."""
        layout, why = (survey.layout, survey.why) if survey is not None else (None, None)
        return Published(self.mirror, result, self.target, self.signed.snapshot.serial, layout=layout, layout_why=why)


@dataclass(slots=True)
class Trail:
    """How far the tries of one publish came, so that the last one can say what all of them did."""

    switching: Published | None = None
    """What is true once the switch that was begun is done: its answer may be lost."""
    switched: bool = False
    """Readers see the snapshot for sure; what follows is cleaning up."""
    heard: bool = False
    """The host said something, in one of the tries."""


def publish(host: Host, task: Task, trail: Trail | None = None) -> Published:
    """Try once; `trail` notes how far it came.

    Raises Braked (a person must look), Conflict, Locked, Full, Damaged, Refused, Unavailable and Cancelled; whatever
    it was, repeating on a fresh host continues.
    """
    outlook = task.outlook(host, host.survey())
    if _serves(outlook.survey, task):
        return _keep_up(host, task, outlook)
    plan = task.plan(outlook)
    linger = replace(task.linger, doubted=task.suspects)
    with host.hold(task.me, task.known, outlook.survey, plan, task.stop, linger=linger) as hold:
        if hold.found is not outlook.survey:  # others were at it: what we saw may be old
            outlook = task.outlook(host, hold.found)
            if _serves(outlook.survey, task):
                return _tend(hold, task, outlook)
            plan = task.plan(outlook)
        try:
            return _lead_over(hold, task, plan, trail or Trail())
        except Conflict:
            task.outlook(host, host.survey())  # says so if it is a newer snapshot that came between
            raise


def _serves(survey: Survey, task: Task) -> bool:
    return survey.current == task.target and survey.whole


def _stage(hold: Hold, task: Task, plan: Plan) -> tuple[Staged, tuple[str, ...]]:
    """Stage; where the disk is full, delete litter, then drop one release, and go on. Returns warnings too."""
    needed = {task.target, plan.base, plan.instead_of}
    dropped: tuple[SnapshotId, ...] = ()
    for _ in range(2):
        try:
            return hold.stage(plan, task.signed, task.content, task.seen), ()
        except Full:
            spare = frozenset(release for release in (*needed, *task.pinned()) if release is not None)
            made = hold.make_room(spare)
            if made is None:
                raise
            if made:
                dropped = made
                break
    told = tuple(f"its oldest release, {release}, was dropped" for release in dropped)
    try:
        staged = hold.stage(plan, task.signed, task.content, task.seen)
    except Full as full:
        raise Full("; ".join((str(full), *told)), full.needed, full.free) from full
    return staged, tuple(f"{task.mirror}: its disk was full: {text}, to make room" for text in told)


def _lead_over(hold: Hold, task: Task, plan: Plan, trail: Trail) -> Published:
    staged, made_room = _stage(hold, task, plan)
    task.agreed(plan, staged.whole)
    inspected = hold.inspect(staged, task.signed, task.read_back)
    if inspected.wrong:
        again = hold.stage(plan, task.signed, task.content, task.seen)
        staged = replace(again, files_sent=staged.files_sent + again.files_sent,
                         files_patched=staged.files_patched + again.files_patched,
                         bytes_sent=staged.bytes_sent + again.bytes_sent)  # fmt: skip
        inspected = hold.inspect(staged, task.signed, task.read_back)
        if inspected.wrong:
            raise Refused(
                f"{task.doing}: {_name_wrong(inspected.wrong)}, and so they are after they were sent again; somebody or"
                " something there alters files, or its server says that it has what it lost: look there; readers were"
                " left where they were"
            )
    published = replace(
        task.ended("published"),
        files_sent=staged.files_sent,
        files_linked=staged.files_linked,
        files_patched=staged.files_patched,
        files_removed=len(plan.removed),
        bytes_sent=staged.bytes_sent,
        instead_of=plan.instead_of,
        layout=hold.found.layout,
        layout_why=hold.found.why,
        warnings=(*made_room, *_name_whole(task, staged), *_name_left_out(staged)),
    )
    published = _how_far(published, inspected)
    task.meeting.ready(hold.beat)
    trail.switching = published
    switched = hold.serve(task.target, plan.instead_of, None if staged.stood else _newest(hold, task))
    published = replace(published, mixture_seconds=switched.mixture, gap_seconds=switched.gap)
    trail.switching, trail.switched = published, True
    task.meeting.switched()
    if staged.stood:
        _post(hold, task)
    return _prune(hold, task, published)


def _keep_up(host: Host, task: Task, outlook: Outlook) -> Published:
    """The mirror serves the snapshot: mend, post or clean up where that is wanted, else leave it alone."""
    needed, survey = task.mend or task.suspects or _card_is_due(outlook, task), outlook.survey
    over = may_be_over(survey.previous, survey.left, task.wall(), task.linger.grace)
    if not needed and not over and survey.tidy:
        return task.ended("unchanged", survey)
    try:
        with host.hold(
            task.me, task.known, survey, stop=task.stop, patient=bool(needed or over), linger=task.linger
        ) as hold:
            if hold.found is not outlook.survey:
                outlook = task.outlook(host, hold.found)
                if not _serves(outlook.survey, task):
                    raise Unavailable(f"{task.doing}: it changed while we took the lock; the next try looks again")
            return _tend(hold, task, outlook)
    except (Locked, Full):
        if needed:
            raise
        return task.ended("unchanged", survey)  # who holds the lock cleans up, or who makes room


def _tend(hold: Hold, task: Task, outlook: Outlook) -> Published:
    published = task.ended("unchanged", hold.found)
    if task.mend or task.suspects:
        mended = hold.mend(task.signed, task.content, task.suspects, task.seen, task.read_back)
        if mended.inspected is not None and mended.inspected.wrong:
            raise Refused(
                f"{task.doing}: {_name_wrong(mended.inspected.wrong, 'after mending')}; its server does not keep what"
                " it says that it has: look there"
            )
        if mended.wrong:
            published = _how_far(
                replace(
                    task.ended("published"),
                    files_sent=mended.files_sent,
                    files_removed=len(mended.wrong.extra),
                    bytes_sent=mended.bytes_sent,
                ),
                mended.inspected,
            )
    if _card_is_due(outlook, task):
        published = replace(published, bytes_sent=published.bytes_sent + _post(hold, task))
    stuck = hold.expire(task.signed)
    published = replace(published, warnings=tuple(f"{show(path)}: it does not go away" for path in stuck))
    return _prune(hold, task, published)


def _card_is_due(outlook: Outlook, task: Task) -> bool:
    """Tell whether the mirror's card is another than ours, and not one that was signed after it."""
    files = tuple(task.signed.changing_files().values())
    if (outlook.survey.card, outlook.survey.card_sig) == files:
        return False
    return outlook.served is None or outlook.served.next_expected <= task.signed.snapshot.next_expected


def _post(hold: Hold, task: Task) -> int:
    files = task.signed.changing_files()
    hold.post(files, task.signed.signed_at)
    return sum(map(len, files.values()))


def _newest(hold: Hold, task: Task) -> frozenset[SnapshotId]:
    pinned = task.pinned()
    newest = sorted({*hold.found.releases, task.target} - pinned)[-max(1, task.keep) :]
    return frozenset({task.target, *newest, *pinned})


def _prune(hold: Hold, task: Task, published: Published) -> Published:
    pruned = hold.prune(_newest(hold, task))
    failed = (f"{name}: {why}" for name, why in pruned.failed.items())
    return replace(published, warnings=(*published.warnings, *failed))


def _name_whole(task: Task, staged: Staged) -> tuple[str, ...]:
    if not staged.whole:
        return ()
    sent, first = len(staged.whole), show(min(staged.whole))
    why = "what they were to be linked to or made of is not as it was published, or it did not link or copy it"
    return (f"{task.mirror}: {sent} files ({first!r} first) were sent whole: {why}; look who alters files there",)


def _name_left_out(staged: Staged) -> tuple[str, ...]:
    if not staged.left_out:
        return ()
    left, first = len(staged.left_out), show(min(staged.left_out))
    why = "neither the mirror nor our store has them, or there is no room"
    return (f"{left} files of earlier releases ({first!r} first) are lost to pages that were opened before: {why}",)


def _how_far(published: Published, inspected: Inspected | None) -> Published:
    """Return the result with how far it was verified."""
    if inspected is None:
        return published
    return replace(
        published,
        verified=inspected.reached.value,
        files_hashed=inspected.files_hashed,
        files_read_back=inspected.files_read_back,
        bytes_read_back=inspected.bytes_read_back,
    )


def _name_wrong(findings: Findings, when: str = "after staging") -> str:
    named = [
        ("missing", findings.missing),
        ("not as sent, by the listing", findings.different),
        ("not as sent, though the listing says so", findings.altered),
        ("not ours", findings.extra),
    ]
    return f"{when}, " + ", ".join(
        f"{len(paths)} paths are {how} ({show(paths[0])!r} first)" for how, paths in named if paths
    )


def publish_with_retries(
    open_host: Callable[[], Host],
    me: Holder,
    mirror: str,
    signed: Signed,
    content: Content,
    known: Known,
    *,
    signers: Signers,
    identity: str | None,
    keep: int,
    guard: Guard,
    allow_deletions: bool = False,
    mend: bool = False,
    suspects: Collection[bytes] = (),
    seen: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
    read_back: int = READ_BACK,
    attempts: int = ATTEMPTS,
    pause: Callable[[float], object] | None = None,
    meeting: Meeting | None = None,
    linger: Linger = NO_GRACE,
    compare: Compare | None = None,
    pinned: Callable[[], frozenset[SnapshotId]] = frozenset,
    agreed: Agreed = lambda _plan, _whole: None,
) -> Published:
    """Make a mirror serve a snapshot; however it ends, the result says so, and repeating continues.

    Where the connection breaks, it is tried a few times more on fresh hosts, but for one that is Silent from the first;
    `open_host` may raise as `hosts.opening.open_host` does. `pause` waits so many seconds between two tries. The rest
    is as in `Task`.
    """
    task = Task(me, mirror, signed, content, known, signers, identity, keep, guard, allow_deletions, mend,
                frozenset(suspects), seen, stop, meeting or AtOnce(), read_back, linger, compare=compare, pinned=pinned,
                agreed=agreed)  # fmt: skip
    stopped = stop if stop is not None else threading.Event()
    started = time.monotonic()
    trail = Trail()

    def once() -> Published:
        try:
            host = open_host()
        except MirrordError as e:
            trail.heard = trail.heard or not isinstance(e, Silent)
            raise
        trail.heard = True
        try:
            return publish(host, task, trail)
        finally:
            host.close()

    def enough(state: RetryCallState) -> bool:
        return state.attempt_number >= (attempts if trail.heard else min(attempts, SILENCES))

    def rest(seconds: float) -> None:
        (pause or stopped.wait)(seconds)

    retrying = Retrying(
        retry=retry_if_exception(lambda e: _passes(e) and not stopped.is_set()),
        stop=enough,
        wait=wait_exponential(multiplier=0.5, max=5.0) + wait_random(0.0, 0.5),
        sleep=rest,
        reraise=True,
    )
    try:
        published = retrying(once)
    except MirrordError as e:
        seconds = time.monotonic() - started
        if trail.switching is None or not trail.switched:
            return Published.failure(mirror, signed, e, seconds)
        # Readers see it; what is left to clean up, the next publish does.
        return replace(trail.switching, seconds=seconds, warnings=(str(e),))
    if trail.switching is not None and published.result == "unchanged":
        published = replace(trail.switching, warnings=published.warnings)
        task.meeting.switched()
    return replace(published, seconds=time.monotonic() - started)


def _passes(error: BaseException) -> bool:
    """Tell whether the same call may well succeed in a moment."""
    return isinstance(error, Unavailable) and not isinstance(error, PutOff)
