"""Judges: one file each. A verdict is read from a judge's own output only; one that cannot be read is missing."""
