// A file that is cut short, or that the disk cannot read, while it is mapped is SIGBUS to whoever
// touches it. The library looks before it reads records; what happens after its look, and to other
// mapped files (checkpoints, input), ends the program here, with the file's name.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

typedef struct text {
    char bytes[4200];
    size_t n;
} text;

static void add(text *t, const char *s)
{
    while (*s && t->n < sizeof t->bytes) t->bytes[t->n++] = *s++;
}

// The next line of an open file without its end, cut to what fits. No stdio: this is a signal
// handler.
static bool next_line(int fd, text *line)
{
    char c;
    line->n = 0;
    while (read(fd, &c, 1) == 1) {
        if (c == '\n') {
            line->bytes[line->n] = 0;
            return true;
        }
        if (line->n + 1 < sizeof line->bytes) line->bytes[line->n++] = c;
    }
    return false;
}

static uintptr_t hex(const char **at)
{
    uintptr_t value = 0;
    for (;; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            value = value << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return value;
    }
}

// The file that is mapped at `address`, as /proc tells it: "from-to rights offset device inode
// path".
static const char *mapped_file(uintptr_t address, text *line)
{
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    const char *path = NULL;
    while (fd >= 0 && !path && next_line(fd, line)) {
        const char *at = line->bytes;
        uintptr_t from = hex(&at), to = *at == '-' ? (at++, hex(&at)) : 0;
        if (address >= from && address < to) path = strchr(line->bytes, '/');
        if (address >= from && address < to && !path) break;
    }
    if (fd >= 0) close(fd);
    return path;
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    static text line, message;
    const char *path = info->si_code > 0 ? mapped_file((uintptr_t)info->si_addr, &line) : NULL;
    (void)context;
    if (!path) { // not this: die of it
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    add(&message, "rotoscope: ");
    add(&message, path);
    add(&message, ": the file was cut short, or cannot be read any more\n");
    (void)!write(STDERR_FILENO, message.bytes, message.n);
    _exit(rot_exit_code(ROT_ERR_CORRUPT));
}

void cli_catch_cut_files(void)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
}
