"""Sequence encoders that recommend by scoring every item: what Table 2 compares with.

Everything here needs torch and numpy alone, as the generative recommender does.
"""
