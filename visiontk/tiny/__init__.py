"""A small world of a hundred things that can be rendered without limit, for training, tests and examples; see `visiontk.tiny.world`."""
