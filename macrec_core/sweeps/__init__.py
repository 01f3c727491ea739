"""Sweeps over one hyper-parameter (Figure 3): the experiments to run, and what came of them."""
