"""A controller whose own network is in trouble: what it cannot judge, it leaves alone."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Lab
from tests.lab.namespaces import Wire
from tests.lab.ports import free_port
from tests.lab.publisher import ADDRESSES, NAME, Publisher, publisher
from tests.lab.waiting import steadily, until


@pytest.fixture
def wire(lab: Lab) -> Wire:
    """A wire between mirrord and everybody else."""
    return lab.wire(also_there=ADDRESSES)


@contextlib.contextmanager
def watched(lab: Lab, wire: Wire, **how: Any) -> Iterator[Publisher]:
    """A publisher on two hosts with both families, watched by a daemon at the other end of a wire."""
    there = [wire.there.address, wire.there.address6]
    reference = lab.nginx(lab.folder("empty"), addresses=there, port=free_port(), prefix=wire.there.prefix)
    references = [f"{wire.there.address}:{reference.port}", f"[{wire.there.address6}]:{reference.port}"]
    with publisher(lab, ("milan", "lyon"), wire=wire, references=references, probe_timeout="1s", **how) as made:
        assert made.verb("sync")["exit"] == 0
        made.daemon.start()
        until(lambda: made.service()["protected"]["ok"], 30, "protection")
        yield made


@pytest.fixture
def site(lab: Lab, wire: Wire) -> Iterator[Publisher]:
    """One of the two serves."""
    with watched(lab, wire) as made:
        yield made


@pytest.fixture
def shared(lab: Lab, wire: Wire) -> Iterator[Publisher]:
    """Both share the readers."""
    with watched(lab, wire, serve="all", failback="manual") as made:
        assert made.verb("switch", "web", "lyon", "--yes")["exit"] == 0
        until(lambda: made.service()["target"] == "milan+lyon", 30, "both to share the readers")
        yield made


def readable(site: Publisher, wire: Wire, name: str) -> bool:
    """Whether a reader at the far end, with everybody else, gets the home page from a host."""
    where = f"{NAME}:{site.port}:{site.hosts[name].address}"
    command = ["curl", "-sf", "--max-time", "5", "--cacert", str(site.ca.file), "--resolve", where, site.url]
    return b"Home" in subprocess.run([*wire.there.prefix, *command], capture_output=True, check=False).stdout


def moves(site: Publisher) -> list[str]:
    """What the history says of moves that were carried out."""
    return [event["what"] for event in site.verb("history")["events"] if "moved from" in event["what"]]


def test_a_controller_that_lost_its_network_moves_nobody_and_goes_on_afterwards(site: Publisher, wire: Wire) -> None:
    """Everything looks down from where we stand: that is our line, not the world."""
    wire.unplug()
    until(lambda: not site.service()["protected"]["ok"], 30, "the loss to be seen")
    assert site.mirror("milan")["verdict"] != "down"
    steadily(lambda: site.service()["decision"] == "stay", 3, "readers to be left alone")

    wire.plug()
    until(lambda: site.service()["protected"]["ok"], 30, "protection")
    assert site.served_at("milan")
    assert not [event for event in site.verb("history")["events"] if "moved from" in event["what"]]


def test_one_lost_family_condemns_nobody(site: Publisher, wire: Wire) -> None:
    """
    Without IPv4 of our own, both hosts are silent over IPv4 and the name server is in reach: exactly the case in
    which a careless controller moves readers who were served well.
    """
    wire.silence(4)
    until(lambda: not site.service()["protected"]["ok"], 30, "the loss to be seen")
    steadily(lambda: site.mirror("milan")["verdict"] != "down", 5, "milan not to be condemned")
    assert site.served_at("milan")

    wire.heal(4)
    until(lambda: site.service()["protected"]["ok"], 30, "protection")


def test_a_host_that_is_really_gone_is_left_while_our_network_is_well(site: Publisher) -> None:
    """The same wires, and a true loss: now the move is due, both families at once."""
    site.hosts["milan"].kill()

    until(lambda: site.served_at("lyon"), 30, "readers to be moved")
    assert site.primary.query("www.example.org", "AAAA") == {site.hosts["lyon"].addresses[1]}


def test_a_primary_that_only_we_cannot_reach_is_left_and_nobody_loses_a_page(site: Publisher, wire: Wire) -> None:
    """
    From here nobody can tell a dead host from one behind a broken path. Readers are moved, once, to a host that we do
    see; those with the old answer go on reading at the primary, and nothing moves back by itself.
    """
    milan = site.hosts["milan"]
    wire.cut(*milan.addresses)
    until(lambda: site.served_at("lyon"), 30, "readers to be moved")
    assert readable(site, wire, "milan")
    assert readable(site, wire, "lyon")
    assert "cannot be reached" in site.mirror("milan")["cause"]

    wire.mend(*milan.addresses)
    until(lambda: site.mirror("milan")["verdict"] == "up", 30, "milan to be seen again")
    steadily(lambda: site.served_at("lyon"), 2, "readers to stay where they are well")
    assert len(moves(site)) == 1


def test_without_ipv6_nobody_is_moved_and_a_switch_leaves_it_out(site: Publisher, wire: Wire) -> None:
    """One family of one host is a flaw of that host; one family of ours is our own affair. IPv4 serves on."""
    lyon6 = site.hosts["lyon"].addresses[1]
    wire.cut(site.hosts["milan"].addresses[1], lyon6)
    until(lambda: len(site.mirror("milan")["degraded"]) == 1, 30, "the lost family to be told")
    assert (site.mirror("milan")["verdict"], site.service()["decision"]) == ("up", "stay")
    assert site.verb("switch", "web", "lyon", "--yes")["exit"] == 0
    assert site.served_at("lyon")
    assert site.primary.query(NAME, "AAAA") == set()

    wire.silence(6)
    until(lambda: not site.service()["protected"]["ok"], 30, "the loss of our own IPv6 to be seen")
    steadily(lambda: site.mirror("lyon")["verdict"] == "up", 3, "IPv4 to be judged as ever")
    assert "cannot be read" in site.service()["protected"]["why"], "the name servers are there by IPv6 alone"
    wire.heal(6)
    until(lambda: site.service()["protected"]["ok"], 30, "protection")
    assert site.served_at("lyon")


def test_without_name_servers_nothing_moves_and_the_first_that_is_back_is_told(site: Publisher) -> None:
    """Mirrors and networks are well and only the name servers are gone: said at once, whether or not a move is due."""
    site.primary.kill()
    site.secondary.kill()
    until(lambda: not site.service()["protected"]["ok"], 30, "the loss to be told")
    assert "cannot be read" in site.service()["protected"]["why"]
    assert site.mirror("milan")["verdict"] == "up"
    assert site.service()["decision"] == "stay"

    site.hosts["milan"].kill()
    until(lambda: site.mirror("milan")["verdict"] == "down", 30, "milan to be judged down")
    assert not site.service()["protected"]["ok"]
    site.primary.start()
    until(lambda: site.served_at("lyon"), 30, "readers to be moved")
    assert len(moves(site)) == 1


def test_of_those_who_share_readers_only_who_is_seen_to_be_gone_leaves(shared: Publisher, wire: Wire) -> None:
    """Our own network prunes nobody; one host that we cannot reach while others are well leaves, and only that one."""
    wire.unplug()
    until(lambda: not shared.service()["protected"]["ok"], 30, "the loss to be seen")
    steadily(lambda: shared.service()["decision"] == "stay", 2, "readers to be left alone")
    wire.plug()
    until(lambda: shared.service()["protected"]["ok"], 30, "protection")
    assert shared.served_at("milan", "lyon")

    wire.cut(*shared.hosts["milan"].addresses)
    until(lambda: shared.served_at("lyon"), 30, "milan to leave the answer")
    wire.cut(*shared.hosts["lyon"].addresses)
    until(lambda: shared.mirror("lyon")["verdict"] == "down", 30, "lyon to be judged down")
    steadily(lambda: shared.served_at("lyon"), 2, "the last one to stay")
    assert len(moves(shared)) == 2, "one by hand, one by itself"
