"""What can a controller do, and how is it asked to?

crew.py       the one place that makes workers
works.py      what one controller stands on: settings, journal, store, mirrors, name servers
syncing.py    a snapshot is taken and published to all mirrors, each on its own
looking.py    one round of looks at everything
moving.py     readers are moved: fresh look, intent, change, proof
mind.py       all that changes while mirrord runs, owned by one thread
desk.py       the verbs, the same with a daemon and without
server.py     the daemon's ear: HTTP on a unix socket
client.py     the other end of it
"""
