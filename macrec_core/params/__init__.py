"""Typed sections of params.yaml: loaded once, validated as a whole, no defaults."""
