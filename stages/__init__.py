"""The pipeline's stages: one file, one command each; `python -m stages --help` lists them."""
