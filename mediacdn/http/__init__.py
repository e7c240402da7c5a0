"""HTTP semantics without I/O, from the RFCs: strings and numbers in, values out."""
