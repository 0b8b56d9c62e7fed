/* NATS JetStream: publications whose acknowledgement comes to _R.<slot>, push consumers. */
#define _GNU_SOURCE
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void publish(struct connection *c, const struct job *job, uint32_t slot, const uint8_t *target,
                    size_t target_length, const uint8_t *body)
{
    uint8_t *at = grow(&c->out, target_length + job->size + 64);
    int length = sprintf((char *)at, "PUB %.*s _R.%u %u\r\n", (int)target_length, (const char *)target, slot,
                         job->size);
    memcpy(at + length, body, job->size);
    memcpy(at + length + job->size, "\r\n", 2);
    c->out.length += (size_t)length + job->size + 2;
}

static void acknowledge(struct connection *c)
{
    if (c->unacked == 0)
        return;
    size_t length = strlen(c->reply);
    append(&c->out, "PUB ", 4);
    append(&c->out, c->reply, length);
    append(&c->out, " 0\r\n\r\n", 6);
    c->unacked = 0;
}

static size_t parse(struct connection *c, const struct job *job, const uint8_t *data, size_t length)
{
    size_t taken = 0;
    while (taken < length) {
        const char *at = (const char *)data + taken;
        const char *end = memmem(at, length - taken, "\r\n", 2);
        if (end == NULL)
            break;
        size_t line = (size_t)(end - at) + 2;
        if (strncmp(at, "MSG ", 4) == 0) { /* MSG subject sid [reply] size */
            char copy[512];
            if (line >= sizeof copy)
                fail("nats", "a long line");
            memcpy(copy, at, line - 2);
            copy[line - 2] = 0;
            char *words[6], *save = NULL;
            int count = 0;
            for (char *word = strtok_r(copy, " ", &save); word && count < 6; word = strtok_r(NULL, " ", &save))
                words[count++] = word;
            size_t size = strtoul(words[count - 1], NULL, 10);
            if (length - taken < line + size + 2)
                break;
            if (c->is_sender) {
                const char *dot = strrchr(words[1], '.');
                answered((uint32_t)strtoul(dot + 1, NULL, 10), memmem(end + 2, size, "\"error\"", 7) != NULL);
            } else {
                delivered((const uint8_t *)end + 2, size);
                if (count == 5) {
                    snprintf(c->reply, sizeof c->reply, "%s", words[3]);
                    c->unacked++;
                    if (job->ack && c->unacked >= job->ack)
                        acknowledge(c);
                }
            }
            taken += line + size + 2;
            continue;
        }
        if (strncmp(at, "PING", 4) == 0)
            append(&c->out, "PONG\r\n", 6);
        else if (strncmp(at, "-ERR", 4) == 0)
            fail("nats", "refused");
        taken += line;
    }
    return taken;
}

const struct peer nats = {"nats", 0, publish, parse, acknowledge};
