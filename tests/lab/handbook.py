"""A real site of a few thousand files: Debian's Administrator's Handbook in many languages, with images.

`tools/fetch-handbook` fetches and unpacks the package; it is not installed, since a system may be set up to install
no documentation.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / ".make" / "debian-handbook"


def package_root() -> Path:
    """Return the folder with all files of the package: 7,884 files, 98 MB.

    Raises:
        AssertionError: it was not fetched. A test that needs it fails: it is never skipped.
    """
    assert PACKAGE.is_dir(), "debian-handbook was not fetched; `make servers` does it"
    return PACKAGE


def site_root() -> Path:
    """Return the folder with the web pages alone: a folder for each language, `en-US/index.html` among them."""
    return package_root() / "usr/share/doc/debian-handbook/html"
