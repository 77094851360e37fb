/* A fake inference engine that answers in microseconds, so that what stands before it is what gets measured.
 *
 * One thread, epoll, HTTP/1.1 with keep-alive. To a prober it is a llama-server with one model, `bench`:
 * GET /health, /v1/models, /props; POST /v1/chat/completions and /v1/completions, whole or as server-sent events.
 * In the body: "stream", "max_tokens" (64 unless given), "stream_options" with "include_usage", and, anywhere, also
 * inside a message so that every proxy passes it on, bench_rate=N: N tokens a second, the first one at once; without
 * it as fast as the socket takes them. One event is one HTTP chunk and one send(), as real engines do it.
 * Usage: engine [PORT]; prints {"event":"ready","port":N} and runs until it is ended. Its counterpart is load.c.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { MAX_FD = 16384, READ_SIZE = 65536, BODY_LIMIT = 32 << 20, HEAD_LIMIT = 65536, TURN = 256, OUT_SIZE = 16384 };

struct conn {
    int fd;
    char *in; /* request bytes not yet served */
    size_t in_len, in_cap;
    char out[OUT_SIZE]; /* answer bytes the socket has not taken yet: one answer head or one burst of due tokens */
    size_t out_len, out_off;
    bool streaming, usage, closing, want_write;
    long sent, tokens;
    double rate; /* tokens per second; 0: flat */
    int64_t start_ns;
    int paced_at; /* place in paced[], or -1 */
};

static int poller;
static struct conn *conns[MAX_FD];
static struct conn *paced[MAX_FD];
static int paced_count;

#define EVENT(choice) \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\"," choice "}\n\n"
static const char FIRST[] =
    EVENT("\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Some\"},\"finish_reason\":null}]");
/* Numbered, so that a test sees one lost or doubled, and since LiteLLM ends a stream that repeats one token 100 times. */
static char TOKEN[] =
    EVENT("\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 00000\"},\"finish_reason\":null}]");
static char *token_number; /* where its last digit is */
static const char FINISH[] = EVENT("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]");
static const char WHOLE[] =
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\",\"choices\":"
    "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"This answer is always the same.\"},\"text\":"
    "\"This answer is always the same.\",\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":6,\"total_tokens\":14}}";
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":"
    "\"llamacpp\",\"meta\":{\"n_ctx\":32768,\"n_ctx_train\":32768,\"n_params\":1000000,\"size\":1000000}}]}";
static const char PROPS[] =
    "{\"default_generation_settings\":{\"n_ctx\":32768},\"total_slots\":1024,\"model_alias\":\"bench\","
    "\"model_path\":\"bench.gguf\",\"modalities\":{\"vision\":false,\"audio\":false},\"build_info\":\"b11549-bench\"}";
static const char MISSING[] =
    "{\"error\":{\"code\":404,\"message\":\"File Not Found\",\"type\":\"not_found_error\"}}";

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void unpace(struct conn *c) {
    if (c->paced_at < 0) return;
    paced[c->paced_at] = paced[--paced_count];
    paced[c->paced_at]->paced_at = c->paced_at;
    c->paced_at = -1;
}

static void drop(struct conn *c) {
    unpace(c);
    conns[c->fd] = NULL;
    close(c->fd);
    free(c->in);
    free(c);
}

static void want_write(struct conn *c, bool want) {
    if (c->want_write == want) return;
    c->want_write = want;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (want ? EPOLLOUT : 0), .data.fd = c->fd};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
}

static void put(struct conn *c, const void *bytes, size_t n) {
    memcpy(c->out + c->out_len, bytes, n);
    c->out_len += n;
}

static void put_event(struct conn *c, const char *text, size_t n) {
    c->out_len += (size_t)sprintf(c->out + c->out_len, "%zx\r\n", n);
    put(c, text, n);
    put(c, "\r\n", 2);
}

static void put_finish(struct conn *c) {
    put_event(c, FINISH, sizeof FINISH - 1);
    if (c->usage) {
        char text[512];
        int n = sprintf(text, EVENT("\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":%ld,\"total_tokens\":%ld}"),
                        c->tokens, c->tokens + 8);
        put_event(c, text, (size_t)n);
    }
    put_event(c, "data: [DONE]\n\n", 14);
    put(c, "0\r\n\r\n", 5);
    c->streaming = false;
    unpace(c);
}

static void put_token(struct conn *c, long number) {
    char *digit = token_number;
    for (int i = 0; i < 5; i++, number /= 10) *digit-- = (char)('0' + number % 10);
    put_event(c, TOKEN, sizeof TOKEN - 1);
}

/* When the next event of a paced stream is due; its finish follows its last token by one interval. */
static int64_t due_ns(const struct conn *c) { return c->start_ns + (int64_t)((double)c->sent * 1e9 / c->rate); }

/* Append what is due, as far as the buffer has room. Flat: one event, so that every stream gets its turn. */
static void produce(struct conn *c, int64_t now) {
    bool flat = c->rate <= 0;
    for (int n = 0; c->streaming && c->out_len < OUT_SIZE - 2048 && (flat ? n < 1 : due_ns(c) <= now); n++) {
        if (c->sent < c->tokens) {
            if (c->sent == 0) put_event(c, FIRST, sizeof FIRST - 1);
            else put_token(c, c->sent);
            c->sent++;
            if (flat && c->sent == c->tokens) put_finish(c);
        } else {
            put_finish(c);
        }
    }
}

/* False when the connection is gone. */
static bool flush(struct conn *c) {
    while (c->out_off < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return true;
        if (n < 0) {
            drop(c);
            return false;
        }
        c->out_off += (size_t)n;
    }
    c->out_off = c->out_len = 0;
    if (c->closing && !c->streaming) {
        drop(c);
        return false;
    }
    return true;
}

static void put_answer(struct conn *c, const char *status, const char *body, size_t n) {
    c->out_len += (size_t)sprintf(c->out + c->out_len,
                                  "HTTP/1.1 %s\r\nServer: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\n"
                                  "Content-Length: %zu\r\n%s\r\n",
                                  status, n, c->closing ? "Connection: close\r\n" : "");
    put(c, body, n);
}

/* Where the value of a field begins, or NULL: a scan is enough for a fake. */
static const char *value_of(const char *body, size_t n, const char *name) {
    const char *at = memmem(body, n, name, strlen(name));
    if (at == NULL) return NULL;
    for (at += strlen(name); at < body + n && strchr("\": =\\", *at); at++) {
        if (*at == 0) return NULL;
    }
    return at < body + n ? at : NULL;
}

static void put_stream_head(struct conn *c, const char *body, size_t n) {
    const char *tokens = value_of(body, n, "\"max_tokens\"");
    if (tokens == NULL) tokens = value_of(body, n, "\"max_completion_tokens\"");
    const char *rate = value_of(body, n, "bench_rate");
    const char *usage = value_of(body, n, "\"include_usage\"");
    c->tokens = tokens ? atol(tokens) : 64;
    if (c->tokens < 1) c->tokens = 1;
    c->rate = rate ? atof(rate) : 0;
    c->usage = usage && *usage == 't';
    c->sent = 0;
    c->streaming = true;
    c->start_ns = now_ns();
    if (c->rate > 0) {
        c->paced_at = paced_count;
        paced[paced_count++] = c;
    }
    static const char head[] = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
                               "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n";
    put(c, head, sizeof head - 1);
    if (c->closing) put(c, "Connection: close\r\n", 19);
    put(c, "\r\n", 2);
    produce(c, c->start_ns);
}

static void answer(struct conn *c, const char *head, const char *body, size_t n) {
    bool post = strncmp(head, "POST ", 5) == 0, get = strncmp(head, "GET ", 4) == 0;
    const char *path = head + (post ? 5 : 4);
    size_t length = strcspn(path, " ?");
#define IS(name) (length == sizeof name - 1 && memcmp(path, name, length) == 0)
    if (post && (IS("/v1/chat/completions") || IS("/v1/completions"))) {
        const char *stream = value_of(body, n, "\"stream\"");
        if (stream && *stream == 't') put_stream_head(c, body, n);
        else put_answer(c, "200 OK", WHOLE, sizeof WHOLE - 1);
    } else if (get && IS("/health")) put_answer(c, "200 OK", "{\"status\":\"ok\"}", 15);
    else if (get && IS("/v1/models")) put_answer(c, "200 OK", MODELS, sizeof MODELS - 1);
    else if (get && IS("/props")) put_answer(c, "200 OK", PROPS, sizeof PROPS - 1);
    else put_answer(c, "404 Not Found", MISSING, sizeof MISSING - 1);
}

/* Take one whole request from the input. 1: answered; 0: more bytes needed; -1: not HTTP, or too large. */
static int take_request(struct conn *c) {
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (end == NULL) return c->in_len > HEAD_LIMIT ? -1 : 0;
    size_t head = (size_t)(end - c->in) + 4;
    end[2] = 0; /* strings stop at the head's end */
    char *field = strcasestr(c->in, "\r\ncontent-length:");
    size_t body = field ? strtoul(field + 17, NULL, 10) : 0;
    bool close_after = strcasestr(c->in, "\r\nconnection: close") != NULL;
    bool refused = strcasestr(c->in, "\r\ntransfer-encoding:") != NULL || body > BODY_LIMIT;
    if (refused) return -1;
    if (c->in_len < head + body) {
        end[2] = '\r';
        return 0;
    }
    c->closing = close_after;
    answer(c, c->in, c->in + head, body);
    c->in_len -= head + body;
    memmove(c->in, c->in + head + body, c->in_len);
    return 1;
}

/* Do all that can be done now: produce, send, serve the next request. */
static void advance(struct conn *c, int64_t now) {
    if (c->streaming && c->out_len == 0) produce(c, now);
    if (!flush(c)) return;
    while (!c->streaming && c->out_len == 0) {
        int taken = take_request(c);
        if (taken < 0) {
            drop(c);
            return;
        }
        if (taken == 0) break;
        if (!flush(c)) return;
    }
    want_write(c, c->out_len > 0 || (c->streaming && c->rate <= 0));
}

/* False when the connection is gone. */
static bool receive(struct conn *c) {
    if (c->in_cap - c->in_len < READ_SIZE) {
        c->in_cap = c->in_cap * 2 + READ_SIZE;
        if (c->in_cap > 2 * BODY_LIMIT + 4 * READ_SIZE || !(c->in = realloc(c->in, c->in_cap))) die("input");
    }
    ssize_t n = recv(c->fd, c->in + c->in_len, READ_SIZE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n <= 0 || c->in_len + (size_t)n > BODY_LIMIT + HEAD_LIMIT) {
        drop(c);
        return false;
    }
    c->in_len += (size_t)n;
    return true;
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = calloc(1, sizeof *c);
        if (c == NULL) die("connection");
        c->fd = fd;
        c->paced_at = -1;
        conns[fd] = c;
        struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
}

/* Send what is due; return milliseconds until something is due again, -1 for never. */
static int pace(void) {
    int64_t now = now_ns(), next = INT64_MAX;
    for (int i = paced_count - 1; i >= 0; i--) {
        struct conn *c = paced[i];
        if (due_ns(c) <= now) {
            if (c->out_len == 0) advance(c, now);
            if (i >= paced_count || paced[i] != c || c->out_len > 0) continue; /* over, gone, or waiting for room */
        }
        if (due_ns(c) < next) next = due_ns(c);
    }
    if (next == INT64_MAX) return -1;
    now = now_ns();
    return next <= now ? 0 : (int)((next - now + 999999) / 1000000);
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&a, n) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&a, &n);
    printf("{\"event\":\"ready\",\"port\":%d}\n", ntohs(a.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* nothing is left behind when the runner is killed */
    token_number = strstr(TOKEN, "00000\"}") + 4;
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, ready[TURN];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e)) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(poller, ready, TURN, pace());
        if (n < 0 && errno != EINTR) die("epoll_wait");
        int64_t now = now_ns();
        for (int i = 0; i < n; i++) {
            struct conn *c = conns[ready[i].data.fd];
            if (ready[i].data.fd == listener) accept_all(listener);
            else if (c == NULL) continue;
            else if (ready[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) drop(c);
            else if (!(ready[i].events & EPOLLIN) || receive(c)) advance(c, now);
        }
    }
}
