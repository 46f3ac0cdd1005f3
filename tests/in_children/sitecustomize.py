"""Every Python that a test starts finds this folder in PYTHONPATH and stands under the suite's socket guard too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from socket_guard import install

sys.path.pop()
install()
