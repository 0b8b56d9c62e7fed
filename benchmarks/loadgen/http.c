/* HTTP/1.1: a target is a whole request. Each connection has one request at a time: a slot keeps to its sender. */
#define _GNU_SOURCE
#include "peer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void publish(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body)
{
    (void)job;
    (void)body;
    c->sequence = slot;
    append(&c->out, target, target_length);
}

/* Return the length of a body, or -1 if it comes in chunks. */
static long body_length(const char *head, size_t length)
{
    const char *end = head + length;
    for (const char *line = head; line < end;) {
        const char *next = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (next == NULL)
            break;
        if (strncasecmp(line, "content-length:", 15) == 0)
            return strtol(line + 15, NULL, 10);
        if (strncasecmp(line, "transfer-encoding:", 18) == 0)
            return -1;
        line = next + 2;
    }
    return 0;
}

static size_t parse(struct connection *c, const struct job *job, const uint8_t *data, size_t length)
{
    (void)job;
    size_t taken = 0;
    while (taken < length) {
        const char *at = (const char *)data + taken;
        const char *end = memmem(at, length - taken, "\r\n\r\n", 4);
        if (end == NULL)
            break;
        size_t head = (size_t)(end - at) + 4;
        long body = body_length(at, head);
        if (body < 0) { /* chunks: the last one is empty */
            const char *last = memmem(end, length - taken - head + 4, "\r\n0\r\n\r\n", 7);
            if (last == NULL)
                break;
            body = (long)(last + 7 - at) - (long)head;
        }
        if (length - taken < head + (size_t)body)
            break;
        answered((uint32_t)c->sequence, head < 12 || strncmp(at + 9, "200", 3) != 0);
        taken += head + (size_t)body;
    }
    return taken;
}

static void acknowledge(struct connection *c)
{
    (void)c;
}

const struct peer http = {"http", 1, publish, parse, acknowledge};
