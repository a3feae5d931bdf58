"""Tar as bytes: reading (ustar, pax, GNU, v7) and writing (pax). No I/O, no clock."""
