"""`visiontk schema`."""

from __future__ import annotations

import json
import sys

from visiontk import records

from . import options


def schema(debug: options.Debug = False) -> None:
    """Print the JSON Schema of the records.

    \b
    visiontk schema > record.schema.json
    visiontk schema | jq '.properties | keys'
    """
    sys.stdout.write(json.dumps(records.schema(), indent=2) + "\n")
