"""The part of the SDK that computes and stores: synchronous, in one worker thread, without network.

``Engine`` in ``engine.engine`` is its door; the shell around it (``restante.client``) moves bytes.
"""
