/* MQTT 3.1.1 with QoS 1 in both directions: every publication and every delivery has a PUBACK of its own. */
#include "peer.h"

#include <string.h>

static void publish(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body)
{
    size_t length = 2 + target_length + 2 + job->size;
    uint8_t *start = grow(&c->out, length + 8), *at = start;
    *at++ = 0x32; /* PUBLISH, QoS 1 */
    for (size_t left = length; ; ) {
        uint8_t digit = left & 0x7f;
        left >>= 7;
        *at++ = (uint8_t)(digit | (left ? 0x80 : 0));
        if (!left)
            break;
    }
    *at++ = (uint8_t)(target_length >> 8);
    *at++ = (uint8_t)target_length;
    memcpy(at, target, target_length);
    at += target_length;
    *at++ = (uint8_t)((slot + 1) >> 8);
    *at++ = (uint8_t)(slot + 1);
    memcpy(at, body, job->size);
    at += job->size;
    c->out.length += (size_t)(at - start);
}

static size_t parse(struct connection *c, const struct job *job, const uint8_t *data, size_t length)
{
    (void)job;
    size_t taken = 0;
    for (;;) {
        const uint8_t *at = data + taken;
        size_t left = length - taken, size = 0, header = 1;
        int shift = 0, complete = 0;
        while (header < left && header < 5) {
            uint8_t digit = at[header++];
            size |= (size_t)(digit & 0x7f) << shift;
            shift += 7;
            if (!(digit & 0x80)) {
                complete = 1;
                break;
            }
        }
        if (!complete || left < header + size)
            return taken;
        const uint8_t *body = at + header;
        if ((at[0] & 0xf0) == 0x40) { /* PUBACK */
            answered((uint32_t)(body[0] << 8 | body[1]) - 1, 0);
        } else if ((at[0] & 0xf0) == 0x30) {
            size_t topic = (size_t)(body[0] << 8 | body[1]);
            const uint8_t *id = body + 2 + topic;
            if (at[0] & 0x06) {
                uint8_t ack[4] = {0x40, 2, id[0], id[1]};
                append(&c->out, ack, 4);
                delivered(id + 2, size - topic - 4);
            } else {
                delivered(id, size - topic - 2);
            }
        }
        taken += header + size;
    }
}

static void acknowledge(struct connection *c)
{
    (void)c; /* each was */
}

const struct peer mqtt = {"mqtt", 0, publish, parse, acknowledge};
