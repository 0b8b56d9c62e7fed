/* A load generator on one core: it publishes with a fixed number in flight, or at a fixed rate, and counts what arrives.
 *
 * The harness connects and authenticates the sockets, and describes the job on standard input, a line each:
 *
 *     peer NAME (of peer.h)             mode deposits|claims      size BYTES        inflight N
 *     ack N (0: once per read)          recipients N              warmup SECONDS    window SECONDS
 *     windows N                         rate PER_SECOND (0: closed loop)            suite N
 *     keys N (of one claim)             pid N (whose CPU time is counted; may come often)
 *     sender FD                         receiver FD [PREFIX_HEX]  target HEX
 *
 * Publications go to the targets in turn and leave by the senders in turn. One is in flight until it is accepted and has
 * arrived at all its recipients. For each window a line of JSON goes to standard output. Latencies are from the intended
 * time of the publication, so a stall delays everything behind it, as it would for people.
 *
 * With the argument ``storm`` it does what storm.c says.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 1 << 18,
    EVENTS = 512,
    MAX_SLOTS = 32768, /* mqtt has 16 bits for them */
    MAX_PIDS = 16,
    STEPS = 32,                 /* of the histogram per power of two: 3 % */
    BUCKETS = 44 * STEPS,       /* nanoseconds up to two hours */
    STUCK_SECONDS = 30,         /* without any delivery or answer */
};

struct slot {
    uint64_t intended;
    uint32_t generation, left;
    int busy, accepted;
};

static const struct peer *peer = &restante;
static struct job job = {.size = 256, .ack = 1, .suite = 3, .keys = 1};
static uint32_t inflight = 1, recipients = 1, windows = 3;
static double warmup = 1, window = 2, rate = 0;
static int pids[MAX_PIDS], pid_count;
static struct connection *connections;
static int connection_count, connection_capacity, *senders, sender_count;
static struct {
    uint8_t *data;
    size_t length;
} *targets;
static int target_count;

static struct slot slots[MAX_SLOTS];
static uint32_t free_slots[MAX_SLOTS], free_count;
static uint64_t histogram[BUCKETS], answers, deliveries, failures, dry, now;
static uint64_t published;
static uint8_t *body;

void fail(const char *what, const char *detail)
{
    fprintf(stderr, "loadgen: %s: %s\n", what, detail);
    exit(1);
}

uint8_t *grow(struct bytes *bytes, size_t more)
{
    if (bytes->length + more > bytes->capacity) {
        bytes->capacity = 2 * (bytes->length + more);
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (bytes->data == NULL)
            fail("memory", "none left");
    }
    return bytes->data + bytes->length;
}

void append(struct bytes *bytes, const void *data, size_t length)
{
    memcpy(grow(bytes, length), data, length);
    bytes->length += length;
}

uint64_t nanoseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The histogram: buckets of equal width within each power of two. */
void record(uint64_t latency)
{
    int power = 63 - __builtin_clzll(latency | 1);
    int bucket = power < 5 ? (int)latency : (power - 4) * STEPS + (int)((latency >> (power - 5)) & (STEPS - 1));
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}

static double bucket_microseconds(int bucket)
{
    if (bucket < STEPS)
        return bucket / 1000.0;
    int power = bucket / STEPS + 4;
    return (double)((uint64_t)(STEPS + bucket % STEPS) << (power - 5)) / 1000.0;
}

double percentile(double share)
{
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        total += histogram[i];
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (total && (double)seen >= share * (double)total)
            return bucket_microseconds(i);
    }
    return 0;
}

static void done(uint32_t slot)
{
    if (slots[slot].busy && slots[slot].accepted && slots[slot].left == 0) {
        slots[slot].busy = 0;
        free_slots[free_count++] = slot;
    }
}

void answered(uint32_t slot, int failed)
{
    if (slot >= MAX_SLOTS || !slots[slot].busy)
        fail(peer->name, "an answer to nothing");
    answers++;
    slots[slot].accepted = 1;
    if (failed) {
        failures++;
        slots[slot].left = 0;
    }
    if (job.claims) {
        deliveries += job.keys;
        record(now - slots[slot].intended);
    }
    done(slot);
}

void delivered(const uint8_t *data, size_t length)
{
    uint32_t slot, generation;
    uint64_t intended;
    if (length < STAMP_BYTES)
        fail(peer->name, "a short body");
    memcpy(&slot, data, 4);
    memcpy(&generation, data + 4, 4);
    memcpy(&intended, data + 8, 8);
    if (slot >= MAX_SLOTS || slots[slot].generation != generation || slots[slot].left == 0)
        return; /* of an earlier job, or delivered again */
    slots[slot].left--;
    deliveries++;
    record(now - intended);
    done(slot);
}

void used_up(void)
{
    dry++;
}

static void publish(uint64_t intended)
{
    uint32_t slot = free_slots[--free_count];
    struct slot *at = &slots[slot];
    at->generation++;
    at->intended = intended;
    at->busy = 1;
    at->accepted = 0;
    at->left = job.claims ? 0 : recipients;
    memcpy(body, &slot, 4);
    memcpy(body + 4, &at->generation, 4);
    memcpy(body + 8, &intended, 8);
    struct connection *c = &connections[senders[(peer->one_at_a_time ? slot : published) % (uint64_t)sender_count]];
    size_t target = published % (uint64_t)target_count;
    published++;
    peer->publish(c, &job, slot, targets[target].data, targets[target].length, body);
}

static int epoll;

static void flush(struct connection *c)
{
    while (c->out.length) {
        ssize_t written = write(c->fd, c->out.data, c->out.length);
        if (written < 0) {
            if (errno != EAGAIN)
                fail("write", strerror(errno));
            if (!c->wants_out) {
                struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
                epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
                c->wants_out = 1;
            }
            return;
        }
        memmove(c->out.data, c->out.data + written, c->out.length - (size_t)written);
        c->out.length -= (size_t)written;
    }
    if (c->wants_out) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
        c->wants_out = 0;
    }
}

static void take(struct connection *c)
{
    static uint8_t buffer[2 * READ_BYTES + (1 << 21)];
    memcpy(buffer, c->kept, c->kept_length);
    ssize_t got = read(c->fd, buffer + c->kept_length, READ_BYTES);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("read", got ? strerror(errno) : "the server closed a connection");
    size_t length = c->kept_length + (size_t)got;
    size_t taken = peer->parse(c, &job, buffer, length);
    c->kept_length = length - taken;
    if (c->kept_length > (1 << 21))
        fail("read", "a message without end");
    if (c->kept_length > c->kept_capacity) {
        c->kept_capacity = 2 * c->kept_length;
        c->kept = realloc(c->kept, c->kept_capacity);
        if (c->kept == NULL)
            fail("memory", "none left");
    }
    memcpy(c->kept, buffer + taken, c->kept_length);
    if (job.ack == 0)
        peer->acknowledge(c);
}

void measure_process(int pid)
{
    if (pid_count == MAX_PIDS)
        fail("input", "too many processes");
    pids[pid_count++] = pid;
}

double server_seconds(void)
{
    double total = 0;
    for (int i = 0; i < pid_count; i++) {
        char path[64], text[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", pids[i]);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            fail("process", "ended");
        size_t length = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[length] = 0;
        unsigned long user, system;
        const char *at = strrchr(text, ')');
        if (at == NULL || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
            fail("process", "no times");
        total += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    return total;
}

double own_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int from_hex(uint8_t *out, size_t capacity, const char *text)
{
    size_t length = strlen(text) / 2;
    if (length > capacity)
        fail("input", "too long");
    for (size_t i = 0; i < length; i++) {
        unsigned value;
        if (sscanf(text + 2 * i, "%2x", &value) != 1)
            fail("input", "not hexadecimal");
        out[i] = (uint8_t)value;
    }
    return (int)length;
}

static struct connection *connect_to(int fd)
{
    if (connection_count == connection_capacity) {
        connection_capacity = connection_capacity ? 2 * connection_capacity : 64;
        connections = realloc(connections, (size_t)connection_capacity * sizeof *connections);
        if (connections == NULL)
            fail("memory", "none left");
    }
    struct connection *c = &connections[connection_count++];
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->mask = (uint32_t)fd * 2654435761u + 12345u;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        fail("input", "not a socket");
    return c;
}

static void read_job(void)
{
    static char line[1 << 21];
    static const struct peer *const known[] = {&restante, &nats, &mqtt, &resp, &http, &xmpp};
    while (fgets(line, sizeof line, stdin)) {
        char *save = NULL, *key = strtok_r(line, " \n", &save);
        char *first = strtok_r(NULL, " \n", &save), *second = strtok_r(NULL, " \n", &save);
        if (key == NULL)
            continue;
        if (first == NULL)
            fail("input", key);
        double value = atof(first);
        if (!strcmp(key, "peer")) {
            peer = NULL;
            for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (!strcmp(known[i]->name, first))
                    peer = known[i];
            if (peer == NULL)
                fail("input", "no such peer");
        } else if (!strcmp(key, "mode")) {
            job.claims = !strcmp(first, "claims");
        } else if (!strcmp(key, "size")) {
            job.size = (uint32_t)value;
        } else if (!strcmp(key, "inflight")) {
            inflight = (uint32_t)value;
        } else if (!strcmp(key, "ack")) {
            job.ack = (uint32_t)value;
        } else if (!strcmp(key, "suite")) {
            job.suite = (uint32_t)value;
        } else if (!strcmp(key, "keys")) {
            job.keys = (uint32_t)value;
        } else if (!strcmp(key, "recipients")) {
            recipients = (uint32_t)value;
        } else if (!strcmp(key, "warmup")) {
            warmup = value;
        } else if (!strcmp(key, "window")) {
            window = value;
        } else if (!strcmp(key, "windows")) {
            windows = (uint32_t)value;
        } else if (!strcmp(key, "rate")) {
            rate = value;
        } else if (!strcmp(key, "pid")) {
            measure_process((int)value);
        } else if (!strcmp(key, "sender")) {
            connect_to((int)value)->is_sender = 1;
            senders = realloc(senders, (size_t)(sender_count + 1) * sizeof *senders);
            senders[sender_count++] = connection_count - 1;
        } else if (!strcmp(key, "receiver")) {
            struct connection *c = connect_to((int)value);
            c->prefix_length = second ? (size_t)from_hex(c->prefix, sizeof c->prefix, second) : 0;
        } else if (!strcmp(key, "target")) {
            targets = realloc(targets, (size_t)(target_count + 1) * sizeof *targets);
            targets[target_count].data = malloc(strlen(first) / 2 + 1);
            targets[target_count].length = (size_t)from_hex(targets[target_count].data, strlen(first), first);
            target_count++;
        } else {
            fail("input", key);
        }
    }
    if (!sender_count || !target_count || job.size < STAMP_BYTES || inflight < 1 || inflight > MAX_SLOTS)
        fail("input", "a job needs a sender, a target, bodies of 16 bytes, and 1 to 32,768 in flight");
}

/* Sleep until something has come, or until a time: epoll_wait has no nanoseconds. */
static void wait_until(uint64_t until)
{
    uint64_t at = nanoseconds();
    struct timespec left = {.tv_sec = 0, .tv_nsec = until > at ? (long)(until - at) : 0};
    if (left.tv_nsec > 999999999)
        left.tv_nsec = 999999999;
    struct pollfd readable = {.fd = epoll, .events = POLLIN};
    if (left.tv_nsec)
        ppoll(&readable, 1, &left, NULL);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "storm"))
        return storm();
    read_job();
    prctl(PR_SET_TIMERSLACK, 1);
    body = calloc(1, job.size);
    for (uint32_t i = 0; i < job.size; i++)
        body[i] = (uint8_t)(i * 37);
    for (uint32_t i = inflight; i-- > 0;)
        free_slots[free_count++] = i;
    epoll = epoll_create1(0);
    for (int i = 0; i < connection_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) < 0)
            fail("epoll", strerror(errno));
        flush(&connections[i]);
    }
    uint64_t start = now = nanoseconds(), since = start, progress = start, before = 0, intended = start;
    uint64_t first_answers = 0, first_deliveries = 0;
    double first_server = 0, first_own = 0;
    uint64_t end = start + (uint64_t)(warmup * 1e9);
    uint32_t number = 0;
    static struct epoll_event events[EVENTS];
    while (number <= windows || free_count < inflight) {
        if (number > windows) {
            /* Finish what is in flight, so that another job can use the sockets. */
        } else if (rate > 0) {
            while (free_count && intended <= now) {
                publish(intended);
                intended += (uint64_t)(1e9 / rate);
            }
        } else {
            while (free_count)
                publish(now);
        }
        for (int i = 0; i < sender_count; i++)
            if (!connections[senders[i]].wants_out)
                flush(&connections[senders[i]]);
        if (rate > 0)
            wait_until(free_count ? intended : now + 1000000);
        int count = epoll_wait(epoll, events, EVENTS, rate > 0 ? 0 : 100);
        now = nanoseconds();
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                take(c);
            flush(c);
        }
        if (answers + deliveries != before) {
            before = answers + deliveries;
            progress = now;
        } else if (now - progress > STUCK_SECONDS * 1000000000ull) {
            fail(peer->name, "nothing moves");
        }
        if (now < end || number > windows)
            continue;
        double server = server_seconds(), own = own_seconds(), seconds = (double)(now - since) / 1e9;
        if (number > 0) {
            double count_of = (double)(deliveries - first_deliveries);
            printf("{\"seconds\": %.3f, \"deliveries\": %.1f, \"publications\": %.1f, \"server_us\": %.3f, "
                   "\"server_share\": %.3f, \"client_share\": %.3f, \"failures\": %llu, \"dry\": %llu, "
                   "\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}\n",
                   seconds, count_of / seconds, (double)(answers - first_answers) / seconds,
                   count_of > 0 ? (server - first_server) * 1e6 / count_of : 0, (server - first_server) / seconds,
                   (own - first_own) / seconds, (unsigned long long)failures, (unsigned long long)dry, percentile(0.5),
                   percentile(0.99), percentile(0.999));
            fflush(stdout);
        }
        number++;
        since = now;
        end = now + (uint64_t)(window * 1e9);
        first_answers = answers;
        first_deliveries = deliveries;
        first_server = server;
        first_own = own;
        memset(histogram, 0, sizeof histogram);
    }
    for (int i = 0; i < connection_count; i++) {
        peer->acknowledge(&connections[i]);
        while (connections[i].out.length)
            flush(&connections[i]);
    }
    return 0;
}
