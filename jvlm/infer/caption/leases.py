"""Leases of units: byte ranges of one file, locked by the process that works on them.

The kernel drops a lock when its process ends, however it ends: nothing has to time out, no clocks are compared, and
`kill -9` leaves nothing behind. On NFS the same locks are kept by the server, for all machines; those of a machine that
died go when its lease with the server runs out (NFSv4: about 90 seconds). A file system without locks is worked on all
the same: a lease only saves doing a unit twice. Twice is the same bytes, committed by rename, so that never is a row
lost or double.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jvlm.files import disk_error

PLANNING, MERGING = 2**40, 2**40 + 1
"""What is leased like a unit and is none."""
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Leases:
    """Of one job, for one process: a second object in the same process would drop the first one's locks."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise disk_error(error, path) from error

    def __enter__(self) -> "Leases":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    @contextmanager
    def hold(self, unit: int, wait: bool = False) -> Iterator[bool]:
        """Whether the unit is this process's until the end of the block. With `wait` it is, sooner or later."""
        ours = self._take(unit, wait)
        try:
            yield ours
        finally:
            if ours:
                with suppress(OSError):  # a file system without locks
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, unit)

    def _take(self, unit: int, wait: bool) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, unit)
        except OSError as error:
            if error.errno in _HELD:
                return False
            if error.errno not in _NO_LOCKS:
                raise
        return True
