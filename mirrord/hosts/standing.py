"""Which layout does an account have already, and which one does it get?

What an operator chose is used. For `auto`, what stands in the account decides before what it can do: readers of a
mirror that serves follow a link, or see a real folder, and changing that under them would leave them with nothing for a
while.
The layouts with a real folder keep the same notes: of these two, what the account can do decides each time.
"""

from __future__ import annotations

from mirrord.hosts.choosing import choose_layout
from mirrord.hosts.files import Kind, Op, Stat, Traits
from mirrord.hosts.inplace import Inplace
from mirrord.hosts.layout import Answers, Layout
from mirrord.hosts.lock import OWN, SWAP
from mirrord.hosts.moving import MOVING
from mirrord.hosts.releases import Releases
from mirrord.hosts.renaming import Renaming
from mirrord.hosts.served import ServedFolder, note_of

AUTO = "auto"
LAYOUTS: dict[str, type[Layout]] = {layout.name: layout for layout in (Releases, Renaming, Inplace)}


class Standing:
    """Finds out, from the first look at an account, how it is laid out."""

    def __init__(
        self, mirror: str, serve: bytes, traits: Traits, wanted: str = AUTO, follows: bool | None = None
    ) -> None:
        """`wanted` is `auto` or a layout's name; `follows` whether the web server was seen to follow a link."""
        self._layouts = {name: layout(mirror, serve, traits) for name, layout in LAYOUTS.items()}
        self._serve = serve
        self._traits = traits
        self._wanted = wanted
        self._follows = follows

    def questions(self) -> list[Op]:
        """Ask for all that any layout wants to know that may come out of it."""
        layouts = self._layouts.values() if self._wanted == AUTO else [self._layouts[self._wanted]]
        return list(dict.fromkeys(op for layout in layouts for op in layout.questions()))

    def layout(self, answers: Answers) -> tuple[Layout, str]:
        """Return the layout, and why it is this one."""
        if self._wanted != AUTO:
            return self._layouts[self._wanted], "it is configured so"
        name, why = choose_layout(self._traits, self._follows)
        if self._is_link(answers):
            return self._layouts[Releases.name], "its readers follow a link already"
        if self._has_notes(answers):
            folder = Renaming.name if self._traits.rename_folder else Inplace.name
            return self._layouts[folder], why if folder == name else "it serves a real folder of ours already"
        return self._layouts[name], why

    def _is_link(self, answers: Answers) -> bool:
        stat = answers[Stat(self._serve)]
        return bool(stat.good and stat.value.kind is Kind.LINK)

    def _has_notes(self, answers: Answers) -> bool:
        own = ServedFolder.names(answers, OWN)
        return any(note_of(name) is not None or name.startswith((MOVING, SWAP)) for name in own)
