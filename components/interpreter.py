"""Starts modules of this project in a new Python interpreter that imports nothing from the current folder.

`python -m` and `python -c` put the current folder in front of the standard library: started beside a file `queue.py`,
they run it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The first statement takes the current folder, "", off the path; `sys` is built in and not looked up there.
_RUN_MODULE = (
    "import sys; sys.path[0] = sys.argv.pop(1); "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours as `python -m module arguments` would, without the current folder.

    module: dotted name. The command needs an environment without relative entries in PYTHONPATH: `module_environment`.
    """
    return [sys.executable, "-c", _RUN_MODULE, str(ROOT), module, *arguments]


def module_environment(**variables: str) -> Mapping[str, str]:
    """This process's environment with these variables, Keras 2 chosen, and libraries' warnings hidden.

    PYTHONPATH leads to our rooms and to nothing relative. PYTHONWARNINGS stays where somebody has set it.
    """
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute()]
    paths = os.pathsep.join(dict.fromkeys([str(ROOT), *given]))
    own = {"PYTHONPATH": paths, "TF_USE_LEGACY_KERAS": "1"}
    return {"PYTHONWARNINGS": "ignore", **os.environ, **own, **variables}
