"""Sockets: aiohttp's WebSockets around ``restante_protocol.connection``."""
