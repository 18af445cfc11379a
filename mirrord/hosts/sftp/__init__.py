"""How is an account reached over SFTP without a shell, and fast although it is far away?

wire.py      pure: packets of SFTP version 3, both directions
dialogue.py  which requests carry out one operation, and what the replies mean
flow.py      pure: which requests go out when; many in flight, every reply counted
road.py      the TCP connection below, and the limit to its bandwidth
session.py   the login and the channels: the only module that imports paramiko
"""
