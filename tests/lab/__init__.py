"""Real servers for the tests, as ordinary processes on loopback addresses.

Each module holds one kind of server with its own configuration in a folder of its own, started on a free
port, awaited on a condition, stopped by its process id. Nothing of the machine's own configuration is read
or changed, and no service of the machine is touched. `tests/conftest.py` hands them to tests as fixtures.
"""
