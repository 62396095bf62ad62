"""`visiontk schema`."""

from __future__ import annotations

import json
import sys

from visiontk import records


def schema() -> None:
    """Print the JSON Schema of the records.

    \b
    visiontk schema > record.schema.json
    visiontk schema | jq '.properties | keys'
    """
    sys.stdout.write(json.dumps(records.schema(), indent=2) + "\n")
