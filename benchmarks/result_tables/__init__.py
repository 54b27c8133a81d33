"""Tables of the records, by subject; ``benchmarks/tables.py`` names them all."""
