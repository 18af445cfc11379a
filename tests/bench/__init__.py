"""How fast is a publish, beside the tools that one would use otherwise? See `python -m tests.bench --help`."""
