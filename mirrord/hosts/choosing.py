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
