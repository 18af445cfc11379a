"""Keep a website readable when the datacentre that serves it is gone."""

__version__ = "0.1.0"
