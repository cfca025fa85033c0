"""Imported by every Python that has this folder on its path: puts faults into the worker processes that a command starts."""

import json
import os
import signal
import sys

if "--multiprocessing-fork" in sys.orig_argv and "CUBEINGEST_TEST_FAULTS" in os.environ:
    from tests.faults.injection import install

    install(json.loads(os.environ["CUBEINGEST_TEST_FAULTS"]))

    if "CUBEINGEST_TEST_DEADLY" in os.environ:
        import rasterio

        _open = rasterio.open

        def _open_or_die(path, *args, **kwargs):
            if str(path).endswith(os.environ["CUBEINGEST_TEST_DEADLY"]):
                os.kill(os.getpid(), signal.SIGKILL)
            return _open(path, *args, **kwargs)

        rasterio.open = _open_or_die
