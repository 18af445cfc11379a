"""BIRD and ExaBGP as Debian's services, with the lines that the document has for `systemctl edit`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import mirrord
from tests.announcing import PAGE, settings_of
from tests.conftest import Lab
from tests.lab.machine import run_on_a_machine
from tests.lab.routing import MIRRORS, PREFIXES

UNITS = Path(__file__).parent.parent / "systemd"
FOLDERS = {"bird": "/etc/bird/mirrord/web.conf", "exabgp": "/etc/exabgp/mirrord/web.routes"}

# What mirrord does as the service that it is: with all that its unit takes away, and what the document gives back.
ANNOUNCE = """
import sys, time
from mirrord.errors import Unavailable
from mirrord.switches import BgpSettings, open_switch, plan_change
speaker, file, prefixes, mirrors = {told!r}
switch = open_switch(BgpSettings(
    "web", speaker, prefixes, file, socket="/run/bird/bird.ctl", pipes="/run/exabgp/exabgp"))
patience = time.monotonic() + 60
while True:  # until the speaker listens, and a session stands
    try:
        switch.prove()
        break
    except Unavailable:
        if time.monotonic() > patience:
            raise
        time.sleep(0.2)
change = plan_change(
    "web", switch.read().stands, "milan", mirrors, nonce="0" * 32, by="home", ttl=0, was_ttl=0, epoch_above=0)
sent = switch.send(change)
print(sent, switch.read())
sys.exit(0 if sent.kind.value == "accepted" else sent.text)
"""

# The machine is the speaker's; the router is a namespace in it, with its own BIRD and its own kernel.
MACHINE = r"""
systemd-sysusers /out/mirrord.sysusers.conf
sysctl -qw net.ipv6.conf.all.disable_ipv6=0
ip netns add router
ip link add wire type veth peer name wire netns router
ip addr add 198.51.100.5/24 dev wire && ip addr add 2001:db8:1::5/64 dev wire nodad && ip link set wire up
ip -n router addr add 198.51.100.1/24 dev wire && ip -n router addr add 2001:db8:1::1/64 dev wire nodad
ip -n router link set wire up && ip -n router link set lo up
ip netns exec router bird -c /out/router.conf -s /run/router.ctl -P /run/router.pid
install -d -o mirrord "$(dirname "$file")"
install -d /opt/mirrord && cp -r /out/package /opt/mirrord/mirrord && cp /out/announce.py /opt/mirrord/
cp /out/mirrord.service /etc/systemd/system/
edit() {
    install -d "/etc/systemd/system/$1.service.d"
    cp "$2" "/etc/systemd/system/$1.service.d/${3:-override.conf}"
}
edit mirrord /out/edit-mirrord
cat >/out/once <<UNIT
[Unit]
RefuseManualStart=no
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
Environment=PYTHONPATH=/opt/mirrord
ExecStart=
ExecStart=/usr/bin/python3 /opt/mirrord/announce.py
UNIT
edit mirrord /out/once zz-once.conf
announce() { systemctl start mirrord || { journalctl -u mirrord; systemctl status mirrord; return 1; }; }
routes() {
    for family in -4 -6; do ip -n router $family route show proto bird; done | sort | tr -s ' \n' ' '
}
told() { [ "$(routes | grep -o via | wc -l)" = 2 ]; }
until_it() {
    for _ in $(seq 600); do if "$@"; then return 0; fi; sleep 0.1; done
    birdc -s /run/router.ctl show protocols all; systemctl status "$speaker"; return 1
}
sessions() { grep -c 'BGP session established' /run/router.log || true; }
settled() {
    [ "$(sessions)" -ge $((before + 2)) ] &&
        [ "$(birdc -s /run/router.ctl show protocols | grep -c Established)" = 2 ] &&
        ! birdc -s /run/router.ctl show protocols all | grep -qi 'restart active' &&
        ! birdc -s /run/router.ctl show route all | grep -q stale
}
before=0
watch_routes() {
    before=$(sessions)
    rm -f /run/gone /run/enough
    while [ ! -e /run/enough ]; do told || echo gone >>/run/gone; sleep 0.02; done &
    watcher=$!
}
watched() { touch /run/enough; wait "$watcher"; [ ! -e /run/gone ]; }
another() {
    case $(systemctl show -p MainPID --value "$speaker") in 0 | "$1") return 1 ;; esac
}
kill_it() {
    was=$(systemctl show -p MainPID --value "$speaker")
    systemctl kill --signal=KILL "$speaker"
    until_it another "$was"
}
keeps() {
    echo "== $*"
    watch_routes; "$@"; until_it settled; watched
}
loses() {
    echo "== $* without a line of the document"
    watch_routes; "$@"; until_it told; until_it settled
    if watched; then echo 'nothing was lost: what is watched here shows nothing'; return 1; fi
}
"""

BIRD = r"""
printf 'BIRD_RUN_USER=bird\nBIRD_RUN_GROUP=bird\nBIRD_ARGS=-R\n' >/etc/bird/envvars
cp /out/speaker.conf /etc/bird/bird.conf
install -o mirrord /dev/null "$file"
edit bird /out/edit-bird
systemctl daemon-reload
systemctl start bird
announce
until_it told; until_it settled

keeps systemctl restart bird
keeps kill_it

rm /etc/systemd/system/bird.service.d/override.conf
systemctl daemon-reload
loses systemctl restart bird
"""

EXABGP = r"""
cp /out/speaker.conf /etc/exabgp/exabgp.conf
install -o mirrord /dev/null "$file"
edit exabgp /out/edit-exabgp
systemctl daemon-reload
systemctl start exabgp
announce
until_it told; until_it settled

keeps systemctl restart exabgp
keeps kill_it

before=$(sessions)
sed -i 's/capability {[^}]*}//' /etc/exabgp/exabgp.conf
systemctl restart exabgp
until_it told; until_it settled
loses systemctl restart exabgp
"""


def edits() -> dict[str, list[str]]:
    """Return unit -> the blocks that the document has for `systemctl edit UNIT`, in order."""
    found: dict[str, list[str]] = {}
    for unit, block in re.findall(r"`systemctl edit (\w+)` says:\n\n```ini\n(.*?)```", PAGE.read_text(), re.DOTALL):
        found.setdefault(unit, []).append(block)
    return found


@pytest.mark.parametrize(("speaker", "story"), [("bird", BIRD), ("exabgp", EXABGP)])
def test_the_speaker_as_a_service_keeps_the_route_over_restarts(speaker: str, story: str, lab: Lab) -> None:
    """
    mirrord writes the file and is heard with all that its unit takes away; the speaker is restarted and killed as an
    operator does it, and the router's kernel has both routes all the time.
    """
    out, file = lab.folder("out"), FOLDERS[speaker]
    folder = str(Path(file).parent)
    shutil.copytree(Path(mirrord.__file__).parent, out / "package", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mirrord.service", "mirrord.sysusers.conf"):
        shutil.copy(UNITS / name, out)
    (out / "announce.py").write_text(ANNOUNCE.format(told=(speaker, file, PREFIXES, MIRRORS)))
    noted = 'log "/run/router.log" all;\ndebug protocols { events };\n'
    (out / "router.conf").write_text(noted + settings_of("The router's bird.conf"))
    (out / "speaker.conf").write_text(settings_of(f"The speaker's {speaker}.conf"))
    told = edits()
    (out / "edit-mirrord").write_text(next(block for block in told["mirrord"] if folder in block))
    (out / f"edit-{speaker}").write_text(told[speaker][0])

    status, said = run_on_a_machine(f"set -eu\nspeaker={speaker} file={file}\n{MACHINE}{story}", out, within=200)

    assert status == 0, said[-5000:]
