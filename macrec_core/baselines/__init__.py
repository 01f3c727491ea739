"""Sequence encoders that recommend by scoring every item: what Table 2 compares with."""
