"""Speed and memory, side by side with other tools; docs/benchmarks.md says how to run them."""

import os

os.environ["TQDM_DISABLE"] = "1"  # the bars of other tools would fill the output; read when tqdm is imported, which is soon
