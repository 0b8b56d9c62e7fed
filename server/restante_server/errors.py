"""What the relay itself raises.

::

    Refused   a request that a client may not have: becomes an Error frame, the connection goes on

What a store raises is drawn in ``stores.contract``, what the wire raises in ``restante_protocol.errors``, and a wrong
setting is ``config.SettingError``.
"""

from restante_protocol.errors import Code


class Refused(Exception):  # noqa: N818 -- an outcome, as in the protocol
    """A request is refused; nothing changed.

    Attributes:
        code: what the client is told.
        detail: a constant string for developers.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(detail or code.name.lower())
        self.code = code
        self.detail = detail
