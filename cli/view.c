// Serves a dataset's pages to a browser on this machine, until a signal comes.
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

enum { KEY_PORT = 1, PORT = 8080, PATIENCE_S = 60, CONNECTIONS = 64 };

typedef struct view_args {
    cli_common common;
    const char *dataset;
    int port;
    rot_view *view;
} view_args;

static const struct argp_option options[] = {
    {"port", KEY_PORT, "N", 0, "of 127.0.0.1 (default: 8080; 0: any that is free)", 1}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    view_args *a = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case KEY_PORT:
        errno = 0;
        long port = strtol(arg, &end, 10);
        if (errno || *end || end == arg || port < 0 || port > 65535)
            argp_error(state, "--port takes a number from 0 to 65535, not '%s'", arg);
        a->port = (int)port;
        return 0;
    case ARGP_KEY_ARG:
        if (a->dataset) argp_error(state, "one DATASET");
        a->dataset = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->dataset) argp_error(state, "a DATASET is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// A page of another site, whose name leads to this machine, must not read the dataset.
static bool is_local(const char *host)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; host && i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (!strncasecmp(host, names[i], n) && (!host[n] || host[n] == ':')) return true;
    }
    return false;
}

static enum MHD_Result send_answer(struct MHD_Connection *to, const rot_view_answer *answer,
                                   enum MHD_ResponseMemoryMode mode)
{
    bool moved = answer->status == 303;
    struct MHD_Response *response =
        moved ? MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT)
              : MHD_create_response_from_buffer(answer->n_bytes, answer->body, mode);
    if (!response) return MHD_NO;
    if (moved) MHD_add_response_header(response, "Location", answer->body);
    MHD_add_response_header(response, "Content-Type", answer->type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
                            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    enum MHD_Result ok = MHD_queue_response(to, (unsigned)answer->status, response);
    MHD_destroy_response(response);
    return ok;
}

static enum MHD_Result refuse(struct MHD_Connection *to, int status, const char *cause)
{
    rot_view_answer answer = {status, "text/plain; charset=utf-8", (char *)cause, strlen(cause)};
    return send_answer(to, &answer, MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result serve(void *user, struct MHD_Connection *to, const char *path,
                             const char *method, const char *version, const char *upload,
                             size_t *n_upload, void **state)
{
    view_args *a = user;
    rot_view_answer answer = {0};
    rot_err err = {0};
    (void)version, (void)upload, (void)n_upload, (void)state;
    if (!is_local(MHD_lookup_connection_value(to, MHD_HEADER_KIND, "Host")))
        return refuse(to, 403, "This is for a browser on the same machine.\n");
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return refuse(to, 405, "GET and HEAD alone.\n");
    const rot_view_request request = {
        path, MHD_lookup_connection_value(to, MHD_GET_ARGUMENT_KIND, "from"),
        MHD_lookup_connection_value(to, MHD_GET_ARGUMENT_KIND, "id")};
    if (rot_view_get(a->view, &request, &answer, &err) < 0) return refuse(to, 500, err.message);
    if (a->common.verbose) fprintf(stderr, "%d %s\n", answer.status, path);
    bool moved = answer.status == 303;
    enum MHD_Result ok = send_answer(to, &answer, MHD_RESPMEM_MUST_FREE);
    if (moved) free(answer.body);
    return ok;
}

static int say_where(const view_args *a, int port)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
    if (a->common.json)
        printf("{\"url\": \"%s\"}\n", url);
    else
        puts(url);
    if (!a->common.quiet) fprintf(stderr, "rotoscope: open it in a browser; Ctrl-C ends it\n");
    return cli_done(0);
}

static int serve_until_signal(view_args *a)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)a->port),
                                        .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const volatile sig_atomic_t *stop = cli_catch_signals();
    sigset_t ours, before; // the server's thread is to leave the signals to this one
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT), sigaddset(&ours, SIGTERM), sigaddset(&ours, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    errno = 0;
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve, a, MHD_OPTION_SOCK_ADDR, &address,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)PATIENCE_S, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS, MHD_OPTION_END);
    if (!daemon) {
        fprintf(stderr, "rotoscope: cannot listen on 127.0.0.1:%d: %s\n", a->port,
                strerror(errno ? errno : EADDRINUSE));
        return 1;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    int code = say_where(a, info ? info->port : a->port);
    while (code == 0 && !*stop) sigsuspend(&before);
    pthread_sigmask(SIG_SETMASK, &before, NULL); // a second signal need not wait for a page
    MHD_stop_daemon(daemon);
    return code;
}

int cli_view(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "DATASET",
        "Shows a dataset in a web browser: its splits, their rows as the tower sees them, one "
        "sample in full, the report. Writes where to look on stdout and serves this machine "
        "alone, until a signal ends it (exit code 0).",
        cli_children,
        NULL,
        NULL};
    view_args a = {.port = PORT};
    rot_err err = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (rot_view_open(a.dataset, &a.view, &err) < 0) return cli_fail(&err);
    int code = serve_until_signal(&a);
    rot_view_close(&a.view);
    return code;
}
