"""The relay: stores and forwards ciphertext, and cannot read it."""
