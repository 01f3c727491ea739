"""Cross-modal residual quantization (Eqs. 2-13) and semantic-ID assignment.

Imports nothing beyond torch and numpy, so that it also runs on a bare GPU image.
"""
