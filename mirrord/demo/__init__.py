"""What does mirrord do, shown on one machine with nothing to install?

The hosts, the name server and the publisher's machine are all here; the daemon beside them is the real one.

    plug.py   servers that can be taken off the net and brought back
    sftpd.py  hosts that are published to
    webd.py   what readers see of them
    named.py  the name server that is told where readers should go
    site/     a small site in several languages, to have something worth keeping
    outage/   what is published while its first host is gone, laid over the site
    story.py  what happens, in which order
"""
