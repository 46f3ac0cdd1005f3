"""From an answer back to what the model was trained on: verbatim spans, nearest passages, nearest pictures.

`jvlm.trace.build` makes an index of records, `Trace` looks in it for evidence. The index is behind one interface
(`jvlm.trace.types.TraceIndex`); `jvlm.trace.embedded` is the one that needs no server.
"""

from jvlm.trace.search import Trace

__all__ = ["Trace"]
