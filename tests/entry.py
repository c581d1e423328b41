"""The command `walvec` with a test's Timing: `python tests/entry.py TIMING WORDS…`.

TIMING is the JSON of its fields. Every command that supervises work in this process does so by it.
"""

import functools
import json
import sys
from unittest.mock import patch

from walvec import supervise
from walvec.database.silence import Patience
from walvec.stages.timing import Timing

if __name__ == "__main__":
    given = json.loads(sys.argv.pop(1))
    timing = Timing(**given | {"patience": Patience(**given["patience"])})
    # A module is looked for where the command runs, not beside this file.
    sys.path[0] = ""
    with patch.object(supervise, "supervise", functools.partial(supervise.supervise, timing=timing)):
        # Commands take the function from its module when they are imported.
        from walvec.cli.app import main

        main()
