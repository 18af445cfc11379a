"""What does mirrord do, shown on one machine with nothing to install?

plug.py   servers that can be taken off the net and brought back
sftpd.py  hosts that are published to
webd.py   what readers see of them
named.py  the name server that is told where readers should go
site/     a small site in several languages, to have something worth keeping
"""
