/* A reconnect storm: all clients connect in the same moment, and are back when their subscription is answered.
 *
 * The harness describes it on standard input, a line each:
 *
 *     port N (of the loopback)          pid N (whose CPU time is counted; may come often)
 *     upgrade HEX (the HTTP request)    subscribe HEX (the frame)
 *     signer FD                         client HEX (its Hello; the harness knows the clients in this order)
 *
 * Only the harness has the clients' keys: for each Welcome it is sent, through ``signer``, the client's number and the
 * frame, and it answers with the number and the Open to send; both are preceded by number and length in four bytes each.
 * A line of JSON goes to standard output; times are from the start to each client's subscription.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ERROR = 65, WELCOME = 64, SUBSCRIBED = 72, BINARY = 0x82 };
enum { READ_BYTES = 1 << 16, EVENTS = 512, MAX_CLIENTS = 65536, STUCK_MILLISECONDS = 30000 };

enum state { CONNECTING, UPGRADING, GREETING, OPENING, SUBSCRIBING, BACK, FAILED };

static struct client {
    struct connection link;
    enum state state;
    struct bytes hello;
} clients[MAX_CLIENTS];
static uint32_t count, left, failures;
static struct bytes upgrade, subscribe;
static struct connection signer;
static uint16_t port;
static int epoll;
static uint64_t begun;

static void decode(struct bytes *into, const char *hex)
{
    size_t length = strlen(hex) / 2;
    uint8_t *at = grow(into, length);
    into->length += (size_t)from_hex(at, length, hex);
}

static void read_job(void)
{
    static char line[1 << 16];
    signer.fd = -1;
    while (fgets(line, sizeof line, stdin)) {
        char *save = NULL, *key = strtok_r(line, " \n", &save), *value = strtok_r(NULL, " \n", &save);
        if (key == NULL || value == NULL)
            fail("input", "a line without a value");
        if (!strcmp(key, "port"))
            port = (uint16_t)atoi(value);
        else if (!strcmp(key, "pid"))
            measure_process(atoi(value));
        else if (!strcmp(key, "upgrade"))
            decode(&upgrade, value);
        else if (!strcmp(key, "subscribe"))
            decode(&subscribe, value);
        else if (!strcmp(key, "signer"))
            signer.fd = atoi(value);
        else if (!strcmp(key, "client") && count < MAX_CLIENTS)
            decode(&clients[count++].hello, value);
        else
            fail("input", key);
    }
    if (!count || !port || signer.fd < 0)
        fail("input", "a storm needs a port, a signer and clients");
}

static void watch(struct connection *c, uint32_t events, uint64_t number, int operation)
{
    struct epoll_event event = {.events = events, .data.u64 = number};
    if (epoll_ctl(epoll, operation, c->fd, &event) < 0)
        fail("epoll", strerror(errno));
    c->wants_out = (events & EPOLLOUT) != 0;
}

static int flush(struct connection *c, uint64_t number)
{
    while (c->out.length) {
        ssize_t written = write(c->fd, c->out.data, c->out.length);
        if (written < 0) {
            if (errno != EAGAIN)
                return -1;
            if (!c->wants_out)
                watch(c, EPOLLIN | EPOLLOUT, number, EPOLL_CTL_MOD);
            return 0;
        }
        memmove(c->out.data, c->out.data + written, c->out.length - (size_t)written);
        c->out.length -= (size_t)written;
    }
    if (c->wants_out)
        watch(c, EPOLLIN, number, EPOLL_CTL_MOD);
    return 0;
}

static void end(struct client *client, enum state state)
{
    client->state = state;
    left--;
    if (state == FAILED) {
        failures++;
        close(client->link.fd);
    } else {
        record(nanoseconds() - begun);
    }
}

static void put(struct bytes *into, uint32_t value)
{
    append(into, &value, sizeof value);
}

/* One frame of the relay: an array, and the number of its kind. */
static void take_frame(struct client *client, const uint8_t *frame, size_t length)
{
    if (length < 2 || frame[1] == ERROR) {
        end(client, FAILED);
    } else if (client->state == GREETING && frame[1] == WELCOME) {
        client->state = OPENING;
        put(&signer.out, (uint32_t)(client - clients));
        put(&signer.out, (uint32_t)length);
        append(&signer.out, frame, length);
    } else if (client->state == OPENING) {
        client->state = SUBSCRIBING;
        masked_message(&client->link, BINARY, subscribe.data, subscribe.length);
    } else if (client->state == SUBSCRIBING && frame[1] == SUBSCRIBED) {
        end(client, BACK);
    }
}

static void keep(struct connection *c, const uint8_t *data, size_t length)
{
    c->kept_length = 0;
    if (length > c->kept_capacity) {
        c->kept_capacity = 2 * length;
        c->kept = realloc(c->kept, c->kept_capacity);
        if (c->kept == NULL)
            fail("memory", "none left");
    }
    memcpy(c->kept, data, length);
    c->kept_length = length;
}

static size_t receive(struct connection *c, uint8_t *buffer)
{
    memcpy(buffer, c->kept, c->kept_length);
    ssize_t got = read(c->fd, buffer + c->kept_length, READ_BYTES);
    if (got < 0 && errno == EAGAIN)
        return c->kept_length;
    return got <= 0 ? 0 : c->kept_length + (size_t)got;
}

static void take(struct client *client)
{
    static uint8_t buffer[4 * READ_BYTES];
    size_t length = receive(&client->link, buffer), at = 0;
    if (length == 0) {
        end(client, FAILED);
        return;
    }
    if (client->state == UPGRADING) {
        const uint8_t *head = memmem(buffer, length, "\r\n\r\n", 4);
        if (head != NULL) {
            if (length < 12 || memcmp(buffer + 9, "101", 3)) {
                end(client, FAILED);
                return;
            }
            client->state = GREETING;
            at = (size_t)(head - buffer) + 4;
        }
    }
    while (client->state > UPGRADING && client->state < BACK) {
        size_t header, size;
        if (!message_size(buffer + at, length - at, &header, &size))
            break;
        if (buffer[at] == BINARY)
            take_frame(client, buffer + at + header, size);
        else if (buffer[at] == 0x88)
            end(client, FAILED);
        at += header + size;
    }
    if (client->state < BACK)
        keep(&client->link, buffer + at, length - at);
    else
        client->link.kept_length = 0;
}

/* Opens that the harness has signed. */
static void take_signed(void)
{
    static uint8_t buffer[4 * READ_BYTES];
    size_t length = receive(&signer, buffer), at = 0;
    if (length == 0)
        fail("signer", "it has ended");
    while (length - at >= 8) {
        uint32_t number, size;
        memcpy(&number, buffer + at, 4);
        memcpy(&size, buffer + at + 4, 4);
        if (length - at < 8 + size)
            break;
        struct client *client = &clients[number];
        if (number >= count)
            fail("signer", "a client that is none");
        if (client->state == OPENING) {
            masked_message(&client->link, BINARY, buffer + at + 8, size);
            if (flush(&client->link, number) < 0)
                end(client, FAILED);
        }
        at += 8 + size;
    }
    keep(&signer, buffer + at, length - at);
}

static void start(struct client *client, uint64_t number)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    client->link.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    client->link.mask = (uint32_t)number * 2654435761u + 12345u;
    if (client->link.fd < 0)
        fail("socket", strerror(errno));
    setsockopt(client->link.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->link.fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        fail("connect", strerror(errno));
    append(&client->link.out, upgrade.data, upgrade.length);
    masked_message(&client->link, BINARY, client->hello.data, client->hello.length);
    watch(&client->link, EPOLLIN | EPOLLOUT, number, EPOLL_CTL_ADD);
}

int storm(void)
{
    static struct epoll_event events[EVENTS];
    read_job();
    left = count;
    epoll = epoll_create1(0);
    fcntl(signer.fd, F_SETFL, O_NONBLOCK);
    watch(&signer, EPOLLIN, count, EPOLL_CTL_ADD);
    double server = server_seconds(), own = own_seconds();
    begun = nanoseconds();
    for (uint32_t i = 0; i < count; i++)
        start(&clients[i], i);
    double asked = (double)(nanoseconds() - begun) / 1e6;
    while (left) {
        int ready = epoll_wait(epoll, events, EVENTS, STUCK_MILLISECONDS);
        if (ready == 0)
            fail("storm", "nothing moves");
        for (int i = 0; i < ready; i++) {
            uint64_t number = events[i].data.u64;
            if (number == count) {
                take_signed();
                continue;
            }
            struct client *client = &clients[number];
            if (client->state == CONNECTING)
                client->state = UPGRADING;
            if (client->state < BACK && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                take(client);
            else if (client->state == BACK && events[i].events & EPOLLIN)
                watch(&client->link, 0, number, EPOLL_CTL_MOD); /* what comes next is nobody's concern */
            if (client->state < BACK && flush(&client->link, number) < 0)
                end(client, FAILED);
        }
        if (flush(&signer, count) < 0)
            fail("signer", strerror(errno));
    }
    double seconds = (double)(nanoseconds() - begun) / 1e9;
    printf("{\"seconds\": %.3f, \"asked_ms\": %.1f, \"p50_ms\": %.1f, \"p99_ms\": %.1f, \"server_us\": %.1f, "
           "\"own_seconds\": %.4f, \"failures\": %u}\n",
           seconds, asked, percentile(0.5) / 1000, percentile(0.99) / 1000, (server_seconds() - server) * 1e6 / count,
           own_seconds() - own, failures);
    return 0;
}
