"""Training classifiers on one's own pictures: transfer, from scratch, linear and few-shot probes. What it writes, `visiontk.load` reads.

Start reading at `run`: it puts together the data, the network, the recipe and the loop.
"""
