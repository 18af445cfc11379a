"""Which files of a site are pages, and which files of earlier releases may linger beside a new one?

A page is what readers and machines go to of themselves; all else, the assets, is what pages need: style sheets,
scripts, fonts, pictures, downloads. A page that was opened before a switch asks for its assets after it, so those that
the new release does not have stay reachable for a while. A page never lingers: what was withdrawn must be gone. Who
publishes asks this as well as anyone who verifies a copy, and both must come to the same answer. How long files linger,
and where they come from, is said in `mirrord.hosts.lingering`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeVar

from mirrord.siblings import base_of

K = TypeVar("K")
V = TypeVar("V")

_PAGES = frozenset(
    {
        *(b"html", b"htm", b"xhtml", b"xht", b"shtml", b"mht", b"mhtml"),  # read by people
        *(b"txt", b"text", b"md", b"markdown", b"rst", b"adoc"),
        *(b"xml", b"atom", b"rss", b"rdf"),  # feeds and site maps
        *(
            b"php",
            b"phtml",
            b"phar",
            b"cgi",
            b"fcgi",
            b"pl",
            b"py",
            b"rb",
            b"asp",
            b"aspx",
            b"jsp",
        ),  # run by the server
    }
)


def root_of(path: bytes) -> bytes:
    """Return the file that a packed copy is of, by its name alone; the path itself where it is none."""
    while (base := base_of(path)) is not None:
        path = base
    return path


def is_page(path: bytes) -> bool:
    """Tell whether a path is a page, by its name: a packed copy is what its base is.

    Any ending counts, not only the last, since pages have versions (`index.html.de`). So do names without an ending
    (servers call many of them pages), and what a dot hides: `.htaccess` rules, and `.well-known/` is asked for.
    """
    names = path.lower().split(b"/")
    if any(name.startswith(b".") for name in names):
        return True
    endings = root_of(names[-1]).split(b".")[1:]
    return not endings or endings[-1] == b"" or not _PAGES.isdisjoint(endings)


def lingering(
    wanted: Mapping[bytes, object], earlier: Sequence[tuple[K, Mapping[bytes, V]]]
) -> dict[bytes, tuple[K, V]]:
    """Return the assets of earlier releases that may stand beside the files `wanted`: path -> (release, its value).

    `earlier` are releases and their files, the newest first: where several have a path, the newest wins. A file and its
    packed copies are one thing (`mirrord.siblings`): they linger together, from one release, and not beside any of them
    in `wanted`, for a web server would send the old bytes for the new file.
    """
    gone = [(release, files, [p for p in files if p not in wanted and not is_page(p)]) for release, files in earlier]
    if not any(paths for _, _, paths in gone):
        return {}
    folders = _above(wanted)
    found: dict[bytes, tuple[K, V]] = {}
    taken = {root_of(path) for path in wanted}
    for release, files, paths in gone:
        roots: set[bytes] = set()
        for path in paths:
            root = root_of(path)
            if root not in taken and path not in folders and not _stands_on_a_file(path, wanted, found):
                roots.add(root)
                found[path] = release, files[path]
                folders.update(_above((path,)))
        taken |= roots
    return dict(sorted(found.items()))


def _stands_on_a_file(path: bytes, *there: Container[bytes]) -> bool:
    return any(above in files for above in _above((path,)) for files in there)


def _above(paths: Iterable[bytes]) -> set[bytes]:
    """Return all folders that these paths stand in."""
    found: set[bytes] = set()
    for path in paths:
        while (cut := path.rfind(b"/")) > 0:
            path = path[:cut]
            if path in found:
                break
            found.add(path)
    return found
