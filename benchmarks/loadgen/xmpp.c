/* XMPP group chat (XEP-0045): a target is a room; the room's copy to the sender says that it was accepted. The stamp and
 * what fills a body up to its size are hexadecimal digits, so a body of n bytes carries n / 2. */
#define _GNU_SOURCE
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

static void publish(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body)
{
    uint8_t *at = grow(&c->out, target_length + job->size + 128);
    int length = sprintf((char *)at, "<message to='%.*s' type='groupchat' id='s%u'><body>", (int)target_length,
                         (const char *)target, slot);
    at += length;
    for (uint32_t i = 0; i < job->size / 2; i++) {
        *at++ = (uint8_t)digits[body[i] >> 4];
        *at++ = (uint8_t)digits[body[i] & 15];
    }
    memcpy(at, "</body></message>", 17);
    c->out.length += (size_t)length + job->size / 2 * 2 + 17;
}

static uint8_t digit(char of)
{
    return (uint8_t)(of <= '9' ? of - '0' : of - 'a' + 10);
}

static size_t parse(struct connection *c, const struct job *job, const uint8_t *data, size_t length)
{
    (void)job;
    size_t taken = 0;
    for (;;) {
        const char *at = (const char *)data + taken;
        const char *end = memmem(at, length - taken, "</message>", 10);
        if (end == NULL)
            return taken;
        const char *body = memmem(at, (size_t)(end - at), "<body>", 6);
        if (body != NULL && c->is_sender) {
            const char *id = memmem(at, (size_t)(body - at), "id='s", 5);
            if (id == NULL)
                fail("xmpp", "a copy without id");
            answered((uint32_t)strtoul(id + 5, NULL, 10), 0);
        } else if (body != NULL && end - body - 6 >= 2 * STAMP_BYTES) {
            uint8_t stamp[STAMP_BYTES];
            for (int i = 0; i < STAMP_BYTES; i++)
                stamp[i] = (uint8_t)(digit(body[6 + 2 * i]) << 4 | digit(body[7 + 2 * i]));
            delivered(stamp, sizeof stamp);
        } else if (memmem(at, (size_t)(end - at), "type='error'", 12) != NULL) {
            fail("xmpp", "refused");
        }
        taken += (size_t)(end - at) + 10;
    }
}

static void acknowledge(struct connection *c)
{
    (void)c; /* nothing is stored */
}

const struct peer xmpp = {"xmpp", 0, publish, parse, acknowledge};
