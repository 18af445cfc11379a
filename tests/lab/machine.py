"""A machine of its own with a real systemd: private namespaces over a throw-away overlay of this one's root.

A script runs there as root once basic.target is reached. Nothing that it does to the file system lasts, and loopback
is its only network. `/out` inside is a folder that the test sees. Needs root, directly or through `sudo -n`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.processes import root_prefix

# systemd cleans /tmp and expects devices, cgroups and a root that is a mount point of its own: all are made here, away
# from the real ones, before it becomes process 1 of its own namespace.
_BOOT = r"""
set -eu
out=$1
mount --make-rprivate /
mkdir -p "$out/disk"
mount -t tmpfs tmpfs "$out/disk"
mkdir "$out/disk/upper" "$out/disk/work" "$out/disk/root"
root=$out/disk/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$out/disk/upper,workdir=$out/disk/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
for folder in dev run tmp; do mount -t tmpfs tmpfs "$root/$folder"; done
make_node() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
make_node null 1 3; make_node zero 1 5; make_node full 1 7
make_node random 1 8; make_node urandom 1 9; make_node tty 5 0
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/out"
mount --bind "$out" "$root/out"
ip link set lo up
rm -f "$root"/etc/systemd/system/*.wants/*
cat >"$root/etc/systemd/system/test.service" <<UNIT
[Unit]
DefaultDependencies=no
Wants=basic.target
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/bin/bash /out/script; echo \$? >/out/status'
StandardOutput=append:/out/said
StandardError=append:/out/said
ExecStopPost=/bin/systemctl --force --force poweroff
UNIT
mkdir "$root/.old"
cd "$root"
pivot_root . .old
umount -l /.old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=test.service --log-target=null
"""


def run_on_a_machine(script: str, folder: Path, within: float = 110.0) -> tuple[int, str]:
    """Run a bash script on a fresh machine; return its exit status and all that it printed.

    `folder` is `/out` there. Raises AssertionError where it did not end `within` seconds.
    """
    (folder / "script").write_text(script)
    (folder / "boot").write_text(_BOOT)
    namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net"]
    command = [*root_prefix(), "timeout", "-k", "1", f"{within:.0f}", "unshare", *namespaces]
    done = subprocess.run(
        [*command, "bash", str(folder / "boot"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""
    status = folder / "status"
    assert status.exists(), f"it did not end within {within:.0f} s: {said[-3000:]}{done.stdout}{done.stderr}"
    return int(status.read_text()), said
