"""KerasNLP is imported where it is first used, and says nothing of it."""

import os
import subprocess
import sys

IMPORTS = """
import sys, threading, time
from trainer.keras_nlp import keras_nlp
assert "keras_nlp" not in sys.modules
ended, told = threading.Event(), []

def tell():
    while not ended.is_set():
        print("told", flush=True)
        told.append(1)
        time.sleep(0.005)

thread = threading.Thread(target=tell)
thread.start()
assert keras_nlp.layers.TransformerEncoder
ended.set()
thread.join()
assert "keras_nlp" in sys.modules
print("here too")
print(len(told), file=sys.stderr)
"""


def test_what_another_thread_prints_meanwhile_is_printed():
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", IMPORTS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    times = int(done.stderr.splitlines()[-1])
    assert times > 1 and done.stdout == "told\n" * times + "here too\n"
