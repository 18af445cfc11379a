"""How are people and machines told how things stand?

    status.py  the one value that `mirrord status --json` prints, built from what is held true

A report judges nothing and looks nowhere: it is given values and puts them into order. How a screen is laid
out is `mirrord.cli`'s affair.
"""
