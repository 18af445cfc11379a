"""Who says that these bytes are the site's, and can anyone check it?

Whoever carries a copy must be unable to alter it unseen. So every snapshot is signed, and a reader needs only the
public key, `ssh-keygen` and `sha256sum` to check a copy; nothing of ours.

    keys.py       Ed25519 keys, and the list of those whom we believe (the only import of cryptography)
    sshsig.py     OpenSSH's signatures over files, byte for byte as `ssh-keygen -Y` makes them
    snapshots.py  which texts of a snapshot are signed, and what makes a card and a manifest believable
    previous.py   which files of earlier snapshots may stand beside one, by what is signed
    places.py     where a copy lies, and how its files are read
    copy.py       the four-way verdict on any copy: intact, outdated, altered, unverifiable

Where a secret key lies, and who may read it, is the configuration's affair (`mirrord.config`); how bytes come over
HTTP is the probe's (`mirrord.probe`).
"""
