"""The resources as types, their constants, reasons and errors; shared by every program; no I/O, stdlib and msgspec only."""
