/* Redis: pub/sub, where nothing is stored or acknowledged; and as claims, LPOP of a list for each key, many at a time.
 * Answers come in the order of the requests. */
#define _GNU_SOURCE
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_FLIGHT = 65536 };
static uint32_t waiting[IN_FLIGHT];
static uint64_t asked, given;
static uint32_t popped; /* keys of the claim that is answered next */

static void publish(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body)
{
    waiting[asked++ % IN_FLIGHT] = slot;
    if (job->claims) {
        for (uint32_t i = 0; i < job->keys; i++)
            append(&c->out, target, target_length);
        return;
    }
    uint8_t *at = grow(&c->out, target_length + job->size + 80);
    int length = sprintf((char *)at, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%.*s\r\n$%u\r\n", target_length,
                         (int)target_length, (const char *)target, job->size);
    memcpy(at + length, body, job->size);
    memcpy(at + length + job->size, "\r\n", 2);
    c->out.length += (size_t)length + job->size + 2;
}

static size_t parse(struct connection *c, const struct job *job, const uint8_t *data, size_t length)
{
    size_t taken = 0;
    while (taken < length) {
        const char *at = (const char *)data + taken, *stop = (const char *)data + length;
        const char *end = memmem(at, (size_t)(stop - at), "\r\n", 2);
        if (end == NULL)
            break;
        if (c->is_sender) {
            if (at[0] == '-')
                fail("redis", "refused");
            if (job->claims) {
                long size = strtol(at + 1, NULL, 10); /* $n, or $-1 of an empty list */
                size_t whole = (size_t)(end - at) + 2 + (size_t)(size < 0 ? 0 : size + 2);
                if (length - taken < whole)
                    break;
                taken += whole;
                if (size < 0)
                    used_up();
                if (++popped == job->keys) {
                    popped = 0;
                    answered(waiting[given++ % IN_FLIGHT], 0);
                }
                continue;
            }
            answered(waiting[given++ % IN_FLIGHT], 0);
            taken += (size_t)(end - at) + 2;
            continue;
        }
        /* *3, $7 message, $n channel, $n payload */
        const char *cursor = end + 2, *item = NULL;
        size_t size = 0;
        int items = 0;
        for (; items < 3; items++) {
            const char *line = memmem(cursor, (size_t)(stop - cursor), "\r\n", 2);
            if (line == NULL)
                break;
            size = strtoul(cursor + 1, NULL, 10);
            item = line + 2;
            if ((size_t)(stop - item) < size + 2)
                break;
            cursor = item + size + 2;
        }
        if (items < 3)
            break;
        delivered((const uint8_t *)item, size);
        taken = (size_t)(cursor - (const char *)data);
    }
    return taken;
}

static void acknowledge(struct connection *c)
{
    (void)c;
}

const struct peer resp = {"redis", 0, publish, parse, acknowledge};
