"""Cryptography without I/O: MLS (RFC 9420), HPKE (RFC 9180), sealing, and the proofs of the wire protocol."""
