"""The relay's public pages: each is seen in a browser, and looked at by tests of what pages may do."""

PAGES = (
    "/privacy",
    "/privacy?lang=zh",
    "/privacy/1",
    "/privacy/2/changes",
    "/privacy/2/changes?lang=zh",
    "/privacy/1/changes",
    "/transparency",
    "/transparency?lang=zh",
)
"""Of a relay whose policy has changed once."""
