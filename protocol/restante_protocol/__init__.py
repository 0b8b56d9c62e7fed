"""The wire protocol of Restante, without I/O: ids, limits, errors, frames and both sides' connection.

PROTOCOL.md beside this package is the complete specification; this package is one implementation of it.
"""
