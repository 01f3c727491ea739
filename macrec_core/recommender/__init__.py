"""The generative recommender: T5, its training, and constrained beam search.

Imports nothing beyond torch, transformers and numpy, so that it also runs on a bare GPU image.
"""
