"""The tests: one file for each module, and the lab of real servers that they meet."""
