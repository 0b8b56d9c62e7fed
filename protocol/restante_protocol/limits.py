"""Every limit of the wire, with its unit and reason. PROTOCOL.md section 8 prints this table.

What an operator may set lower or higher (quotas) is a default here; what both sides must agree on is a constant.
"""

from typing import Final

# Bodies.
MAX_BODY_BYTES: Final = 96 * 1024  # 64 KiB of content, padding (at most 12%) and MLS framing
MAX_LARGE_BODY_BYTES: Final = 1024 * 1024  # Commits and Welcomes, with the flag `large`; a thousand members fit
MAX_FRAME_BYTES: Final = MAX_LARGE_BODY_BYTES + 64 * 1024  # a large body and its address list
MAX_UNPROVED_FRAME_BYTES: Final = 1024  # before the handshake nobody needs more

# Requests.
MAX_DEPOSIT_ADDRESSES: Final = 1024  # 24 KiB of ids; more go through a list handle
MAX_LIST_ADDRESSES: Final = 16_384  # the largest group: 384 KiB of ids, fits one frame
MAX_LISTS: Final = 64  # list handles per connection
MAX_CLAIM_ADDRESSES: Final = 128  # devices added by one Commit; bounds one answer to 128 packages
MAX_CLAIM_BYTES: Final = 4096  # a Claim over HTTP: its addresses, and little else
MAX_ADDRESS_BATCH: Final = 256  # addresses registered or revoked by one frame
MAX_PREKEY_BATCH: Final = 128  # packages uploaded by one frame
MAX_PREKEY_BYTES: Final = (
    5120  # one sealed KeyPackage; X-Wing needs about 3.2 KiB, and its relay's URL is at most 1 KiB
)
MAX_REQUESTS_IN_FLIGHT: Final = 256  # per connection; the relay stops reading beyond
MAX_ACK_EXCEPTIONS: Final = 256  # as many as a window holds

# Delivery.
WINDOW_ENTRIES: Final = 256  # unacknowledged entries in flight per connection
WINDOW_BYTES: Final = 256 * 1024  # the same in bytes; one entry is always allowed

# Lifetimes, in seconds.
MAX_LIFETIME: Final = 30 * 86_400  # an entry that nobody fetches for a month is dropped
MIN_LIFETIME: Final = 60  # shorter ones are `ephemeral`
FENCE_LIFETIME: Final = MAX_LIFETIME + 86_400  # outlives every entry that carries it
DEDUPLICATION_LIFETIME: Final = 86_400  # a retry comes within a day
MAX_SLOT_LIFETIME: Final = 120 * 86_400  # a manifest's 90 days and a month to renew it

# Slots.
MAX_SLOT_BYTES: Final = 64 * 1024  # manifests, profiles and settings, not attachments

# Blobs.
MAX_BLOB_BYTES: Final = 100 * 1024 * 1024  # what phones send each other: minutes of video
MAX_BLOB_LIFETIME: Final = 45 * 86_400  # a message that waits for a month, and two weeks to fetch what it names
BLOB_PATIENCE: Final = 30  # seconds that any transfer may take, and besides
BLOB_LEAST_RATE: Final = 16 * 1024  # bytes per second: whoever is slower holds a place that others wait for

# Quotas: defaults, an operator may change them.
MAILBOX_ENTRIES: Final = 20_000
MAILBOX_BYTES: Final = 256 * 1024 * 1024
MAILBOX_LARGE_BYTES: Final = 32 * 1024 * 1024  # of these, by bodies above MAX_BODY_BYTES
MAILBOX_ADDRESSES: Final = 4096
ADDRESS_ENTRIES: Final = 10_000  # default and largest cap of one address
INVITE_SHARE: Final = 4  # addresses of the kind `invite` together get a quarter of the mailbox
MAILBOX_PREKEYS: Final = 1024  # one-time packages per pool
BLOBS_BYTES: Final = 4 * 1024 * 1024 * 1024  # of all blobs together: nobody answers for them, so it is small
ADDRESS_CLAIMS: Final = 20  # one-time packages through one address at once: less than half of what a client keeps there
ADDRESS_CLAIM_SECONDS: Final = (
    1800  # until it gives one more: 48 a day, so that a pool outlasts its owner's day offline
)
PREKEYS_LOW_MARK: Final = 20  # below this count the owner is told

# Connections, in seconds.
HANDSHAKE_TIMEOUT: Final = 10
PING_INTERVAL: Final = 25  # below the idle timeout of common proxies
PING_TIMEOUT: Final = 60  # unanswered for so long closes the connection

MAX_SUITES: Final = 8  # prekey pools per mailbox
MAX_VERSIONS: Final = 16  # in a Hello
MAX_ADMISSION_BYTES: Final = 256
MAX_DISCLOSURE_BYTES: Final = 8192  # one entry of the log of disclosures: names of fields, to whom and why
MAX_CURSOR_BYTES: Final = 32  # where an export goes on; whatever the store needs
MAX_PURPOSE_BYTES: Final = 32  # a purpose's name

# The directory.
MAX_EVALUATIONS: Final = 16  # elements in one Evaluate: some milliseconds of the relay's time
DIRECTORY_RECORD_BYTES: Final = 512  # every record has as many: an invite with a URL of 300 bytes fits
DIRECTORY_BUCKET: Final = 100  # records of numbers in a bucket at the least: whom one looks for is one of so many
DIRECTORY_PAGE: Final = 256  # of them in one answer: some 140 KiB
HANDLE_EVALUATIONS: Final = 50  # by one mailbox at once: more names than a person looks for in a day
HANDLE_EVALUATION_SECONDS: Final = 600  # until it may one more: 144 a day
NUMBER_QUERIES: Final = 1000  # by one verified number at once: an address book and what it takes to look
NUMBER_QUERY_SECONDS: Final = 300  # until it may one more: 288 a day
MAX_NUMBER_BYTES: Final = 16  # E.164: a plus sign and 15 digits
NUMBER_CODE_DIGITS: Final = 6  # to be typed from one screen to another
NUMBER_CODE_LIFETIME: Final = 600  # seconds
NUMBER_CODE_TRIES: Final = 5  # one code in 200,000 is guessed

# Push.
MAX_ENDPOINT_BYTES: Final = 1000  # of a URL; those of known push services have some 200 to 500

MAX_SEQUENCE: Final = 2**63 - 1  # sequences fit a signed 64-bit integer
MAX_SEEN: Final = 2**62  # that a client may say it has seen: a relay goes on above it; no clock is there until 4199
MAX_PREKEY_NUMBER: Final = 2**47  # likewise: a relay keeps these in 48 bits
SEQUENCE_TIME_SHIFT: Final = 16  # sequence = max(last + 1, unix milliseconds << 16)
