"""MACRec: multi-aspect cross-modal quantization for generative recommendation."""

__version__ = "0.1.0"
