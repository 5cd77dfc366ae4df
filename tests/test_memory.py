import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np
from pointpeft.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    np.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = faults()
print(faults() - first)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than GNU's")
def test_freed_memory_is_not_mapped_anew():
    pages = {
        mode: int(subprocess.check_output([sys.executable, "-c", _PROGRAM, mode]))
        for mode in ("kept", "given-back")
    }
    assert pages["kept"] < 10 <= pages["given-back"]  # of 4 kB, or of 2 MB where there are such
