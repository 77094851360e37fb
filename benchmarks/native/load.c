/* A load generator for OpenAI-compatible servers: one thread, epoll, keep-alive, and one JSON object at the end.
 *
 * N clients each ask, wait for the whole answer, and ask again. Modes: `closed` (plain answers: requests per second
 * and latency), `flat` (event streams as fast as they come: chunks per second), `paced` (streams at --rate tokens a
 * second, begun evenly over the warm-up so that the server meets no stampede: time to first token, delivered share).
 * Usage: load --port P --mode closed|flat|paced [--clients N] [--seconds S] [--warmup S] [--rate R] [--tokens T]
 *             [--requests N] [--model NAME] [--path PATH]
 * Rates count the S seconds after the warm-up, latencies what began in them (paced: all streams); total_* count the
 * whole run, for whoever divides CPU time by them. --requests ends the run after so many answers. A stream without
 * its [DONE], a status other than 200 and a connection that ends early are errors. Its counterpart is engine.c.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_LIMIT = 16384, READ_SIZE = 1 << 18, TURN = 256, ERROR_LIMIT = 1000, SNIPPET = 200 };

enum state { IDLE, CONNECTING, SENDING, HEAD, LENGTH, CHUNK_SIZE, CHUNK_REST, CHUNK, CHUNK_END, TRAILER };

struct client {
    int fd;
    enum state state;
    size_t sent;
    int64_t start_at, sent_ns, first_ns; /* when to ask next; when asked; when the first event came, or 0 */
    char head[HEAD_LIMIT + 1];
    size_t head_len;
    int status;
    bool close_after, trailer_empty;
    uint64_t left; /* bytes left of the body or of the chunk */
    int matched;   /* place within the line "data: {": -1 once the line is known not to be that */
    bool finished; /* [DONE] was seen */
};

struct series {
    double *us;
    size_t n, cap;
};

static struct {
    const char *mode, *model, *path;
    int port, clients;
    double seconds, warmup, rate;
    long tokens, requests;
} option = {.mode = "closed", .model = "bench", .path = "/v1/chat/completions", .clients = 1, .seconds = 2, .warmup = 0.5, .rate = 50, .tokens = 250};

static struct {
    uint64_t requests, chunks, bytes, total_requests, total_chunks, errors;
    char first_error[SNIPPET];
    struct series latency, first_token;
} seen;

static int poller;
static struct client *clients;
static char request[4096];
static size_t request_len;
static bool streams, paced;
static int64_t began_ns, window_ns, end_ns;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void record(struct series *s, int64_t ns) {
    if (s->n == s->cap) {
        s->cap = s->cap * 2 + 4096;
        if (!(s->us = realloc(s->us, s->cap * sizeof *s->us))) die("samples");
    }
    s->us[s->n++] = (double)ns / 1000;
}

/* Leave the connection; ask again a little later when it failed, so that a server that is gone is not hammered. */
static void hang_up(struct client *c, const char *error, int64_t now) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = IDLE;
    c->start_at = now;
    if (error == NULL) return;
    c->start_at = now + 20000000;
    if (seen.errors++ == 0) snprintf(seen.first_error, SNIPPET, "%s", error);
}

static void watch(struct client *c, uint32_t events, int operation) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &e)) die("epoll_ctl");
}

static void send_request(struct client *c, int64_t now) {
    while (c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return; /* EPOLLOUT comes again */
        if (n < 0) {
            hang_up(c, strerror(errno), now);
            return;
        }
        c->sent += (size_t)n;
    }
    watch(c, EPOLLIN | EPOLLRDHUP, EPOLL_CTL_MOD);
    c->state = HEAD;
}

/* The clock of a request starts here: for a new connection its set-up is part of it. */
static void ask(struct client *c, int64_t now) {
    c->sent = c->head_len = 0;
    c->first_ns = 0;
    c->matched = 0;
    c->finished = false;
    c->sent_ns = now;
    if (c->fd >= 0) {
        c->state = SENDING;
        watch(c, EPOLLIN | EPOLLOUT | EPOLLRDHUP, EPOLL_CTL_MOD);
        send_request(c, now);
        return;
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) hang_up(c, strerror(errno), now);
    else watch(c, EPOLLOUT, EPOLL_CTL_ADD);
}

static void finish_answer(struct client *c, int64_t now) {
    if (c->status != 200 || (streams && !c->finished)) {
        char text[SNIPPET];
        snprintf(text, SNIPPET, c->status != 200 ? "status %d" : "a stream without [DONE] (status %d)", c->status);
        hang_up(c, text, now);
        return;
    }
    seen.total_requests++;
    if (now >= window_ns && now < end_ns) seen.requests++;
    if (c->sent_ns >= window_ns) record(&seen.latency, now - c->sent_ns);
    if (c->close_after) hang_up(c, NULL, now);
    c->state = IDLE;
    c->start_at = now;
}

static void count_event(struct client *c, int64_t now) {
    seen.total_chunks++;
    if (now >= window_ns && now < end_ns) seen.chunks++;
    if (c->first_ns == 0) {
        c->first_ns = now;
        if (paced || c->sent_ns >= window_ns) record(&seen.first_token, now - c->sent_ns);
    }
}

/* Count the lines that begin `data: {`, whatever the cuts; the space may be absent. `data: [DONE]` is the end. */
static void count_lines(struct client *c, const char *p, size_t n, int64_t now) {
    const char *end = p + n;
    while (p < end) {
        if (c->matched >= 0 && *p != '\n') {
            if (c->matched < 5) c->matched = *p == "data:"[c->matched] ? c->matched + 1 : -1;
            else if (c->matched == 5 && *p == ' ') c->matched = 6;
            else {
                if (*p == '{') count_event(c, now);
                c->finished |= *p == '[';
                c->matched = -1;
            }
            p++;
            continue;
        }
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        if (line_end == NULL) return;
        p = line_end + 1;
        c->matched = 0;
    }
}

/* True when the head is whole; what follows it stays with the caller. False also for a head that is none. */
static bool take_head(struct client *c, const char **p, const char *end, int64_t now) {
    while (*p < end && c->head_len < HEAD_LIMIT) {
        c->head[c->head_len++] = *(*p)++;
        if (c->head_len < 4 || memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4) != 0) continue;
        c->head[c->head_len] = 0;
        bool http = sscanf(c->head, "HTTP/1.%*d %d", &c->status) == 1;
        char *length = strcasestr(c->head, "\r\ncontent-length:");
        bool chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
        c->close_after = strcasestr(c->head, "\r\nconnection: close") != NULL;
        c->left = length && !chunked ? strtoull(length + 17, NULL, 10) : 0;
        c->state = chunked ? CHUNK_SIZE : LENGTH;
        if (http && (chunked || length)) return true;
        hang_up(c, "not an HTTP/1.1 answer with a length", now);
        return false;
    }
    if (c->head_len == HEAD_LIMIT) hang_up(c, "an answer head too long", now);
    return false;
}

static void take_chunk_size(struct client *c, char byte) {
    if (byte >= '0' && byte <= '9') c->left = c->left * 16 + (uint64_t)(byte - '0');
    else if ((byte | 32) >= 'a' && (byte | 32) <= 'f') c->left = c->left * 16 + (uint64_t)((byte | 32) - 'a' + 10);
    else c->state = CHUNK_REST;
}

/* Through as many bytes of one read as belong to this answer. */
static void take_bytes(struct client *c, const char *p, const char *end, int64_t now) {
    if (c->state == HEAD && !take_head(c, &p, end, now)) return;
    while (p < end || (c->state == LENGTH && c->left == 0)) {
        size_t n = (size_t)(end - p);
        switch (c->state) {
        case LENGTH:
        case CHUNK:
            if (n > c->left) n = c->left;
            if (streams) count_lines(c, p, n, now);
            p += n;
            c->left -= n;
            if (c->left > 0) break;
            if (c->state == LENGTH) {
                finish_answer(c, now);
                return;
            }
            c->state = CHUNK_END;
            break;
        case CHUNK_END: /* the line break after a chunk */
            if (*p++ == '\n') c->state = CHUNK_SIZE;
            break;
        case CHUNK_SIZE:
            take_chunk_size(c, *p);
            p += c->state == CHUNK_SIZE;
            break;
        case CHUNK_REST: /* extensions and the line break */
            if (*p++ != '\n') break;
            c->state = c->left ? CHUNK : TRAILER;
            c->trailer_empty = true;
            break;
        case TRAILER:
            if (*p == '\n' && c->trailer_empty) {
                finish_answer(c, now);
                return;
            }
            c->trailer_empty = *p == '\n' || (*p == '\r' && c->trailer_empty);
            p++;
            break;
        default:
            hang_up(c, "bytes that nobody asked for", now);
            return;
        }
    }
}

static void on_event(struct client *c, uint32_t events, int64_t now) {
    static char buffer[READ_SIZE];
    if (c->fd < 0) return;
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t n = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
        if (error) {
            hang_up(c, strerror(error), now);
            return;
        }
        c->state = SENDING;
    }
    if (c->state == SENDING && (events & EPOLLOUT)) send_request(c, now);
    if (c->fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))) return;
    ssize_t n = recv(c->fd, buffer, READ_SIZE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        hang_up(c, c->state == IDLE ? NULL : n < 0 ? strerror(errno) : "the connection ended before the answer did", now);
        return;
    }
    seen.bytes += (uint64_t)n;
    take_bytes(c, buffer, buffer + n, now);
}

static void prepare_request(void) {
    char body[2048];
    int n = snprintf(body, sizeof body,
                     "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Say something%s\"}],\"max_tokens\":%ld,\"stream\":%s}",
                     option.model, paced ? ", bench_rate=%RATE%" : "", option.tokens, streams ? "true" : "false");
    char *place = strstr(body, "%RATE%");
    if (place) {
        char tail[256];
        snprintf(tail, sizeof tail, "%s", place + 6);
        n = (int)(place - body) + sprintf(place, "%g%s", option.rate, tail);
    }
    request_len = (size_t)snprintf(request, sizeof request,
                                   "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                                   "Authorization: Bearer bench\r\nContent-Length: %d\r\n\r\n%s",
                                   option.path, option.port, n, body);
}

static void read_options(int argc, char **argv) {
    static const struct option names[] = {{"port", 1, 0, 'p'},   {"mode", 1, 0, 'm'}, {"clients", 1, 0, 'c'}, {"seconds", 1, 0, 's'},
                                          {"warmup", 1, 0, 'w'}, {"rate", 1, 0, 'r'}, {"tokens", 1, 0, 't'},  {"requests", 1, 0, 'n'},
                                          {"model", 1, 0, 'M'},  {"path", 1, 0, 'P'}, {0, 0, 0, 0}};
    for (int which; (which = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (which == 'p') option.port = atoi(optarg);
        else if (which == 'm') option.mode = optarg;
        else if (which == 'c') option.clients = atoi(optarg);
        else if (which == 's') option.seconds = atof(optarg);
        else if (which == 'w') option.warmup = atof(optarg);
        else if (which == 'r') option.rate = atof(optarg);
        else if (which == 't') option.tokens = atol(optarg);
        else if (which == 'n') option.requests = atol(optarg);
        else if (which == 'M') option.model = optarg;
        else if (which == 'P') option.path = optarg;
        else exit(2);
    }
    paced = strcmp(option.mode, "paced") == 0;
    streams = paced || strcmp(option.mode, "flat") == 0;
    if (option.port <= 0 || option.clients <= 0 || strlen(option.model) > 200 || strlen(option.path) > 200 || (!streams && strcmp(option.mode, "closed"))) {
        fprintf(stderr, "load: see the comment on top of load.c for its options\n");
        exit(2);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_series(const char *name, struct series *s) {
    if (s->n) qsort(s->us, s->n, sizeof *s->us, ascending);
#define AT(q) (s->n ? s->us[(size_t)((double)(s->n - 1) * (q))] : 0)
    printf(",\"%s_n\":%zu,\"%s_p50_us\":%.1f,\"%s_p90_us\":%.1f,\"%s_p99_us\":%.1f", name, s->n, name, AT(0.5), name, AT(0.9), name, AT(0.99));
}

static void report(int64_t now) {
    double window = (double)((now < end_ns ? now : end_ns) - window_ns) / 1e9;
    if (window <= 0) window = 1e-9;
    printf("{\"mode\":\"%s\",\"clients\":%d,\"seconds\":%.3f,\"requests\":%lu,\"errors\":%lu,\"requests_per_s\":%.1f", option.mode,
           option.clients, window, seen.requests, seen.errors, (double)seen.requests / window);
    printf(",\"chunks\":%lu,\"chunks_per_s\":%.1f,\"total_requests\":%lu,\"total_chunks\":%lu,\"bytes\":%lu", seen.chunks,
           (double)seen.chunks / window, seen.total_requests, seen.total_chunks, seen.bytes);
    if (paced) { /* the finish event of each stream is no token */
        double tokens = (double)seen.chunks - (double)seen.requests;
        printf(",\"delivered\":%.4f", tokens / (option.rate * option.clients * window));
    }
    print_series("latency", &seen.latency);
    print_series("ttft", &seen.first_token);
    for (char *p = seen.first_error; *p; p++)
        if (*p == '"' || *p == '\\' || *p < ' ') *p = ' ';
    printf(",\"first_error\":\"%s\"}\n", seen.first_error);
}

/* Let those ask whose time has come; return milliseconds until the next one's, or the end. */
static int ask_due(int64_t now) {
    int64_t next = end_ns;
    for (int i = 0; i < option.clients; i++) {
        struct client *c = &clients[i];
        if (c->state != IDLE) continue;
        if (c->start_at <= now) ask(c, now);
        else if (c->start_at < next) next = c->start_at;
    }
    now = now_ns();
    return next <= now ? 0 : (int)((next - now + 999999) / 1000000);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* nothing is left behind when the runner is killed */
    prepare_request();
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    if (!(clients = calloc((size_t)option.clients, sizeof *clients))) die("clients");
    began_ns = now_ns();
    window_ns = began_ns + (int64_t)(option.warmup * 1e9);
    end_ns = window_ns + (int64_t)(option.seconds * 1e9);
    for (int i = 0; i < option.clients; i++) {
        clients[i].fd = -1;
        clients[i].start_at = began_ns + (paced ? (int64_t)(option.warmup * 1e9 * i / option.clients) : 0);
    }
    struct epoll_event ready[TURN];
    int64_t now = now_ns(), waiting_ms = ask_due(now);
    while (now < end_ns && seen.errors < ERROR_LIMIT && (!option.requests || seen.total_requests < (uint64_t)option.requests)) {
        int n = epoll_wait(poller, ready, TURN, (int)waiting_ms);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        now = now_ns();
        for (int i = 0; i < n; i++) {
            struct client *c = ready[i].data.ptr;
            now = now_ns();
            on_event(c, ready[i].events, now);
            if (c->state == IDLE && c->start_at <= now) ask(c, now_ns());
        }
        waiting_ms = ask_due(now_ns());
    }
    report(now_ns());
    return 0;
}
