"""A controller whose own network is in trouble: what it cannot judge, it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Lab
from tests.lab.namespaces import Wire
from tests.lab.ports import free_port
from tests.lab.publisher import ADDRESSES, Publisher, publisher
from tests.lab.waiting import steadily, until


@pytest.fixture
def wire(lab: Lab) -> Wire:
    """A wire between mirrord and everybody else."""
    return lab.wire(also_there=ADDRESSES)


@pytest.fixture
def site(lab: Lab, wire: Wire) -> Iterator[Publisher]:
    """A publisher on two hosts with both families, watched by a daemon at the other end of a wire."""
    there = [wire.there.address, wire.there.address6]
    reference = lab.nginx(lab.folder("empty"), addresses=there, port=free_port(), prefix=wire.there.prefix)
    references = [f"{wire.there.address}:{reference.port}", f"[{wire.there.address6}]:{reference.port}"]
    with publisher(lab, ("milan", "lyon"), wire=wire, references=references, probe_timeout="1s") as made:
        assert made.verb("sync")["exit"] == 0
        made.daemon.start()
        until(lambda: made.service()["protected"]["ok"], 30, "protection")
        yield made


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
