"""Put on PYTHONPATH by tests: decoding a picture of 13 x 7 pixels ends the process, as a bad decoder would."""

import os
import signal

from PIL import ImageFile

_load = ImageFile.ImageFile.load


def _deadly_load(self):
    if self.size == (13, 7):
        os.kill(os.getpid(), signal.SIGSEGV)
    return _load(self)


ImageFile.ImageFile.load = _deadly_load
