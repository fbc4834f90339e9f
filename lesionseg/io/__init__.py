"""Files as they are on disk: bounded reading of untrusted input, atomic writing, and which files may be replaced."""
