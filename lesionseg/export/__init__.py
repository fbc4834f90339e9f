"""A trained run in, a file for another runtime out, with proof that it says the same."""
