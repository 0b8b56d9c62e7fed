/* What the load generator and the protocols it speaks share. */
#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <stdint.h>

enum { STAMP_BYTES = 16 }; /* at the start of every body: slot, filler, intended time */

/* A growing buffer of bytes to write. */
struct bytes {
    uint8_t *data;
    size_t length, capacity;
};

uint8_t *grow(struct bytes *bytes, size_t more); /* room for so many more bytes; the caller adds to length */
void append(struct bytes *bytes, const void *data, size_t length);

/* One socket, already connected and authenticated by the harness. */
struct connection {
    int fd;
    int is_sender;
    uint8_t *kept; /* the start of a message whose end has not arrived */
    size_t kept_length, kept_capacity;
    struct bytes out;
    int wants_out;
    uint64_t unacked;  /* entries since the last acknowledgement */
    uint64_t sequence; /* restante: of the last entry; http: the slot */
    uint64_t run_next; /* restante: of the next entry in the run */
    uint64_t run_left;
    uint8_t prefix[128]; /* of an acknowledgement */
    size_t prefix_length;
    char reply[256]; /* nats: where the last message wants its acknowledgement */
    uint32_t mask;
};

/* What a job asks for. */
struct job {
    int claims;        /* claims instead of deposits */
    uint32_t size;     /* of a body */
    uint32_t ack;      /* acknowledge every so many entries; 0: once per read */
    uint32_t suite;    /* of claims */
    uint32_t keys;     /* of one claim */
};

/* A protocol. */
struct peer {
    const char *name;
    int one_at_a_time; /* on a connection */
    /* Append one publication (or claim) whose answer names ``slot``. ``body`` has job->size bytes. */
    void (*publish)(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body);
    /* Take complete messages from the start of ``data``; return how many bytes were taken. */
    size_t (*parse)(struct connection *c, const struct job *job, const uint8_t *data, size_t length);
    /* Acknowledge what was received, after a read. */
    void (*acknowledge)(struct connection *c);
};

extern const struct peer restante, nats, mqtt, resp, http, xmpp;

/* Called by the protocols. */
void answered(uint32_t slot, int failed); /* a publication was accepted (or refused) */
void delivered(const uint8_t *body, size_t length);
void used_up(void); /* a claim had no key of its own */
void fail(const char *what, const char *detail) __attribute__((noreturn));

/* Measuring. */
uint64_t nanoseconds(void);
void record(uint64_t latency); /* nanoseconds */
double percentile(double share); /* microseconds of what was recorded */
void measure_process(int pid);
double server_seconds(void); /* CPU time of the processes that are measured */
double own_seconds(void);
int from_hex(uint8_t *out, size_t capacity, const char *text); /* returns the length */

/* WebSocket messages (restante.c). */
void masked_message(struct connection *c, uint8_t first, const uint8_t *payload, size_t length);
int message_size(const uint8_t *at, size_t length, size_t *header, size_t *size); /* 0: it has not come whole */

int storm(void);

#endif
