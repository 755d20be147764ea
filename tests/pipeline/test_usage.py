"""What a stretch of the process used."""

import subprocess
import sys

import numpy as np

from pipeline.usage import measured

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_the_processor_seconds_of_ended_children_count():
    with measured() as usage:
        subprocess.run([sys.executable, "-c", BURN], check=True)
    assert usage.processor_seconds >= 0.3


def test_the_peak_counts_memory_that_was_given_back():
    with measured() as before:
        pass
    with measured() as usage:
        np.ones(32 * 1024**2).sum()  # 256 MiB
    assert usage.peak_memory_bytes > before.peak_memory_bytes + 200 * 1024**2
