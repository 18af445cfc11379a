"""Which layout suits an account, and why?

Pure: what an account can do goes in, the best layout that works there comes out, with its reason in an operator's
words. How a layout works is said where it is; what an account can do is found out by `trying`.
"""

from __future__ import annotations

from typing import NamedTuple

from mirrord.hosts.files import Traits


class Choice(NamedTuple):
    """A layout, and why it is the best that works."""

    layout: str
    """`releases`, `rename` or `inplace`."""
    why: str


def choose_layout(traits: Traits, follows: bool | None = None) -> Choice:
    """Choose for `auto`. `follows`: whether the web server was seen to follow the link; None where nobody looked.

    Where not even `inplace` can work (`obstacle` says so), it is chosen all the same: publishing says what fails.
    """
    lacks = _against_links(traits, follows)
    if not lacks:
        return Choice(
            "releases", "links can be made, followed and replaced in one step: readers see whole releases only"
        )
    if traits.rename_folder:
        gap = "two renames sent together" if traits.ordered else "two renames, the second after the first was answered"
        return Choice("rename", f"{lacks}; folders can be renamed: readers are led on by {gap}")
    return Choice(
        "inplace", f"{lacks}, and folders cannot be renamed: files are replaced one by one where they are served"
    )


def obstacle(traits: Traits) -> str | None:
    """Say why no layout works on an account, None where one does."""
    if not traits.mtime:
        return "files do not keep the mtime that was set: a finished file could not be told from a half one"
    return None


def _against_links(traits: Traits, follows: bool | None) -> str:
    """Say why readers cannot be led by a link, an empty text where they can."""
    if not traits.symlink:
        return "links cannot be made there"
    if not traits.replace_link:
        return "a link cannot be replaced in one step there"
    if follows is False:
        return "the web server does not follow the link"
    if not traits.rename_folder:
        return "a finished tree cannot be renamed to its place there"
    return ""


def what_follows(trait: str, *, works: bool, keep: int) -> str:
    """Say what it means for publishing that an account can do something, or cannot; `keep` releases stay there."""
    yes, no = _FOLLOWS[trait]
    return (yes if works else no).format(keep=keep)


_FOLLOWS = {
    "symlink": (
        "readers can be led by a link",
        "no layout releases: readers are led by renames",
    ),
    "replace_link": (
        "layout releases: readers see a whole release, or the one before",
        "no layout releases: replacing the link would leave a gap, or move what it leads to",
    ),
    "replace": (
        "served files are replaced without a gap",
        "a file that is replaced where it is served is missing for a moment",
    ),
    "rename_folder": (
        "a finished tree comes in by one rename",
        "only layout inplace: files come in one by one, and readers may see a mixture",
    ),
    "hard_link": (
        "unchanged files cost nothing to send and nothing to keep",
        "every file of every release is sent, and keep = {keep} costs {keep} times the site's space",
    ),
    "exclusive": (
        "two controllers never publish at once",
        "two controllers could both hold the lock: let only one publish here",
    ),
    "mtime": (
        "finished files are known again: a broken-off publish continues",
        "nothing can be published: a finished file cannot be told from a half one",
    ),
    "any_name": (
        "any file name of the site arrives as it is",
        "some names of the site may be refused or changed: letters with accents, bytes that are no UTF-8",
    ),
    "space": (
        "room is asked for before anything is sent",
        "a full disk is noticed only when it is full",
    ),
    "copy_data": (
        "of a large file that changed in places only these are sent",
        "a file that changed is sent whole",
    ),
    "hashes": (
        "what arrived is proved by the server's own SHA-256",
        "what arrived is proved by sizes, and by reading some of it back",
    ),
}
