"""A client's WebSocket frames, right and wrong: RFC 6455 section 5.2."""

from restante_server.transport import rfc6455


def frame(
    payload: bytes,
    opcode: int = rfc6455.BINARY,
    *,
    final: bool = True,
    mask: bytes | None = b"\x01\x80\xfe\x37",
    reserved: int = 0,
    length_bytes: int | None = None,
) -> bytes:
    """Return one frame; ``length_bytes``: 0, 2 or 8 after the second byte, by default the shortest form."""
    length = len(payload)
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65_536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes((final << 7 | reserved << 4 | opcode, (mask is not None) << 7 | short))
    extended = length.to_bytes(length_bytes, "big") if length_bytes else b""
    if mask is None:
        return head + extended + payload
    return head + extended + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
