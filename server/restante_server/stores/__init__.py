"""The stores behind the relay: one contract (``contract``), one module per engine."""
