"""How is an account reached over SFTP without a shell, and fast although it is far away?

wire.py     pure: packets of SFTP version 3, both directions
flow.py     pure: operations become requests, many in flight, every reply counted
session.py  the connection: the only module that imports paramiko
"""
