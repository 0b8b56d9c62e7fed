/* Restante: MessagePack frames in WebSocket messages (protocol/PROTOCOL.md, RFC 6455 section 5). */
#include "peer.h"

#include <string.h>

enum { DEPOSIT = 16, CLAIM = 19, ERROR = 65, DEPOSITED = 67, CLAIMED = 68, RUN = 73, ENTRY = 74 };
enum { LIFETIME = 3600 };

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void put64(uint8_t *at, uint64_t value)
{
    put32(at, (uint32_t)(value >> 32));
    put32(at + 4, (uint32_t)value);
}

/* Append a masked binary message: what a browser sends. */
void masked_message(struct connection *c, uint8_t first, const uint8_t *payload, size_t length)
{
    uint8_t *at = grow(&c->out, length + 14), *start = at;
    *at++ = first;
    if (length < 126) {
        *at++ = (uint8_t)(0x80 | length);
    } else if (length < 65536) {
        *at++ = 0x80 | 126;
        *at++ = (uint8_t)(length >> 8);
        *at++ = (uint8_t)length;
    } else {
        *at++ = 0x80 | 127;
        put64(at, length);
        at += 8;
    }
    c->mask = c->mask * 1664525u + 1013904223u;
    uint8_t mask[4];
    put32(mask, c->mask);
    memcpy(at, mask, 4);
    at += 4;
    for (size_t i = 0; i < length; i++)
        at[i] = payload[i] ^ mask[i & 3];
    c->out.length += (size_t)(at - start) + length;
}

static void publish(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body)
{
    static struct bytes frame;
    static uint64_t serial;
    frame.length = 0;
    uint8_t *start = grow(&frame, 64 + target_length + job->size), *at = start;
    *at++ = job->claims ? 0x94 : 0x98;
    *at++ = job->claims ? CLAIM : DEPOSIT;
    *at++ = 0xce;
    put32(at, slot + 1);
    at += 4;
    if (job->claims) {
        *at++ = 0xce;
        put32(at, job->suite);
        at += 4;
        memcpy(at, target, target_length);
        at += target_length;
        masked_message(c, 0x82, start, (size_t)(at - start));
        return;
    }
    *at++ = 0xc4;
    *at++ = 16;
    put64(at, ++serial * 0x9e3779b97f4a7c15u);
    put64(at + 8, ((uint64_t)c->mask << 32) ^ serial);
    at += 16;
    memcpy(at, target, target_length);
    at += target_length;
    *at++ = 0xc6;
    put32(at, job->size);
    at += 4;
    memcpy(at, body, job->size);
    at += job->size;
    *at++ = 0xce;
    put32(at, LIFETIME);
    at += 4;
    *at++ = 0xc0;
    *at++ = 0;
    masked_message(c, 0x82, start, (size_t)(at - start));
}

/* Read an unsigned integer of MessagePack. */
static uint64_t number(const uint8_t **at)
{
    uint8_t first = *(*at)++;
    if (first < 0x80)
        return first;
    int bytes = first == 0xcc ? 1 : first == 0xcd ? 2 : first == 0xce ? 4 : first == 0xcf ? 8 : 0;
    if (bytes == 0)
        fail("restante", "not a number");
    uint64_t value = 0;
    while (bytes--)
        value = value << 8 | *(*at)++;
    return value;
}

/* Read the length of a byte string of MessagePack. */
static size_t binary(const uint8_t **at)
{
    uint8_t first = *(*at)++;
    int bytes = first == 0xc4 ? 1 : first == 0xc5 ? 2 : first == 0xc6 ? 4 : 0;
    if (bytes == 0)
        fail("restante", "not a byte string");
    size_t length = 0;
    while (bytes--)
        length = length << 8 | *(*at)++;
    return length;
}

static void frame(struct connection *c, const uint8_t *at)
{
    at++; /* an array of so many; the number of the frame tells as much */
    switch (*at++) {
    case ENTRY: {
        at += binary(&at); /* the message id */
        size_t length = binary(&at);
        if (c->run_left == 0)
            fail("restante", "an entry without a run");
        c->run_left--;
        c->sequence = c->run_next++;
        c->unacked++;
        delivered(at, length);
        break;
    }
    case RUN:
        c->run_next = number(&at);
        c->run_left = number(&at);
        break;
    case DEPOSITED: {
        uint32_t slot = (uint32_t)number(&at) - 1;
        answered(slot, *at != 0x90);
        break;
    }
    case CLAIMED: {
        uint32_t slot = (uint32_t)number(&at) - 1;
        size_t count = *at < 0xa0 ? *at & 0x0f : (size_t)at[1] << 8 | at[2];
        at += *at < 0xa0 ? 1 : 3;
        while (count--) {
            at++; /* an array of three */
            uint64_t code = number(&at);
            if (number(&at) == 0 || code)
                used_up();
            at += binary(&at);
        }
        answered(slot, 0);
        break;
    }
    case ERROR: {
        uint64_t request = number(&at);
        uint64_t code = number(&at);
        char detail[64];
        size_t length = (size_t)(*at++ & 0x1f);
        memcpy(detail, at, length);
        detail[length] = 0;
        if (request == 0)
            fail("restante closed the connection", detail);
        (void)code;
        answered((uint32_t)request - 1, 1);
        break;
    }
    default:
        break; /* Drained, PrekeysLow */
    }
}

static void acknowledge(struct connection *c)
{
    if (c->unacked == 0)
        return;
    uint8_t ack[160];
    memcpy(ack, c->prefix, c->prefix_length);
    uint8_t *at = ack + c->prefix_length;
    *at++ = 0xcf;
    put64(at, c->sequence);
    at += 8;
    *at++ = 0x90;
    masked_message(c, 0x82, ack, (size_t)(at - ack));
    c->unacked = 0;
}

int message_size(const uint8_t *at, size_t length, size_t *header, size_t *size)
{
    if (length < 2)
        return 0;
    size_t extended = at[1] == 126 ? 2 : at[1] == 127 ? 8 : 0;
    *header = 2 + extended;
    *size = extended ? 0 : at[1];
    if (length < *header)
        return 0;
    for (size_t i = 2; i < *header; i++)
        *size = *size << 8 | at[i];
    return length >= *header + *size;
}

static size_t parse(struct connection *c, const struct job *job, const uint8_t *data, size_t length)
{
    size_t taken = 0, header, size;
    while (message_size(data + taken, length - taken, &header, &size)) {
        const uint8_t *at = data + taken;
        if (at[0] == 0x82) {
            frame(c, at + header);
            if (job->ack && c->unacked >= job->ack)
                acknowledge(c);
        } else if (at[0] == 0x89) {
            masked_message(c, 0x8a, at + header, size);
        } else if (at[0] == 0x88) {
            fail("restante", "closed");
        }
        taken += header + size;
    }
    return taken;
}

const struct peer restante = {"restante", 0, publish, parse, acknowledge};
