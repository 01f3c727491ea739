"""placeholder until the helper's arrives"""
from contextlib import contextmanager
@contextmanager
def out_of_memory_names(advice):
    yield
