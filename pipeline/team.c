#include "pipeline/team.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"

enum { MAX_HELD = 8 }; // itself, a shard in the making, one being published, prepare, finish

struct rot_team {
    rot_ranks ranks;
    char dir[4200];
    double stale_seconds, start; // start: when it began, in the file system's time
    pthread_t beater;
    pthread_mutex_t mutex; // of all below
    pthread_cond_t wake;
    bool beating, stop;
    rot_claim held[MAX_HELD]; // [0] is its own
};

static void *beat(void *user)
{
    rot_team *team = user;
    double every = team->stale_seconds / 4 > 15 ? 15 : team->stale_seconds / 4;
    pthread_mutex_lock(&team->mutex);
    while (!team->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        double seconds = (double)until.tv_nsec * 1e-9 + every;
        until.tv_sec += (time_t)seconds;
        until.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9);
        pthread_cond_timedwait(&team->wake, &team->mutex, &until);
        for (int i = 0; !team->stop && i < MAX_HELD; i++) rot_claim_beat(&team->held[i]);
    }
    pthread_mutex_unlock(&team->mutex);
    return NULL;
}

static int start_beating(rot_team *team, rot_err *err)
{
    sigset_t all, before; // signals are for the thread that works
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&team->beater, NULL, beat, team);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) return rot_err_errno(err, error, "start a thread for", team->dir);
    team->beating = true;
    return 0;
}

int rot_team_open(const char *root, const char *dataset, const rot_ranks *ranks,
                  double stale_seconds, rot_team **out, rot_err *err)
{
    int rc = 0;
    char path[4400];
    rot_team *team = rot_calloc(1, sizeof *team);
    *out = NULL;
    if (!team) return rot_no_memory(err, sizeof *team, "ranks");
    team->ranks = *ranks;
    team->stale_seconds = stale_seconds;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    for (int i = 0; i < MAX_HELD; i++) team->held[i].fd = -1;
    rot_claim_note *note = &team->held[0].note;
    rot_fs_unique(note->owner);
    rot_fs_host(note->host);
    note->pid = (long)getpid();
    snprintf(note->dataset, sizeof note->dataset, "%.100s", dataset);
    note->rank = ranks->rank;
    note->ranks = ranks->size;
    snprintf(note->launcher, sizeof note->launcher, "%s", ranks->launcher);
    ROT_GO(rot_fs_join(team->dir, sizeof team->dir, root, ".rotoscope/claims", err));
    ROT_GO(rot_fs_mkdirs(team->dir, err));
    snprintf(path, sizeof path, "%s/rank.%s", team->dir, note->owner);
    rot_claim_note own = *note;
    ROT_GO(rot_claim_take(path, &own, 0, stale_seconds, &team->held[0], NULL, err));
    team->start = rot_claim_beat(&team->held[0]);
    ROT_GO(start_beating(team, err));
    *out = team;
    return 0;
done:
    rot_team_close(&team, NULL);
    return rc;
}

void rot_team_close(rot_team **team, const char *error)
{
    rot_team *t = *team;
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->mutex);
    if (t->beating) pthread_join(t->beater, NULL);
    for (int i = 0; i < MAX_HELD; i++) {
        if (error && i > 0)
            rot_claim_give_up(&t->held[i], error);
        else
            rot_claim_release(&t->held[i]);
    }
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->mutex);
    rot_free(t);
    *team = NULL;
}

const rot_ranks *rot_team_ranks(const rot_team *team)
{
    return &team->ranks;
}

const char *rot_team_owner(const rot_team *team)
{
    return team->held[0].note.owner;
}

double rot_team_stale_seconds(const rot_team *team)
{
    return team->stale_seconds;
}

// The file system's time, which is what other machines' heartbeats are compared with. Under the
// mutex.
static double now(rot_team *team)
{
    double mtime = rot_claim_beat(&team->held[0]);
    return mtime >= 0 ? mtime : (double)time(NULL);
}

static void path_of(const rot_team *team, const char *name, char path[4400])
{
    snprintf(path, 4400, "%s/%.150s", team->dir, name);
}

static rot_claim *find(rot_team *team, const char *name)
{
    char path[4400];
    path_of(team, name, path);
    for (int i = 1; i < MAX_HELD; i++)
        if (team->held[i].fd >= 0 && !strcmp(team->held[i].path, path)) return &team->held[i];
    return NULL;
}

int rot_team_claim(rot_team *team, const char *name, rot_claim_note *before, rot_err *err)
{
    char path[4400];
    path_of(team, name, path);
    pthread_mutex_lock(&team->mutex);
    rot_claim *slot = NULL;
    for (int i = MAX_HELD - 1; i > 0; i--)
        if (team->held[i].fd < 0) slot = &team->held[i];
    rot_claim_note note = team->held[0].note;
    note.row = note.rows = 0;
    int rc = slot ? rot_claim_take(path, &note, now(team), team->stale_seconds, slot, before, err)
                  : rot_err_set(err, ROT_ERR_INTERNAL, "%s: too much is claimed at once", name);
    pthread_mutex_unlock(&team->mutex);
    return rc;
}

void rot_team_report(rot_team *team, const char *name, uint64_t row, uint64_t rows, double rate)
{
    pthread_mutex_lock(&team->mutex);
    rot_claim *claim = find(team, name);
    if (claim) {
        claim->note.row = row;
        claim->note.rows = rows;
        claim->note.rate = team->held[0].note.rate = rate;
    }
    pthread_mutex_unlock(&team->mutex);
}

void rot_team_release(rot_team *team, const char *name)
{
    pthread_mutex_lock(&team->mutex);
    rot_claim *claim = find(team, name);
    if (claim) rot_claim_release(claim);
    pthread_mutex_unlock(&team->mutex);
}

bool rot_team_gave_up(rot_team *team, const char *name, rot_claim_note *out)
{
    char path[4400];
    double mtime;
    path_of(team, name, path);
    return rot_claim_read(path, out, &mtime, NULL) == 0 && out->error[0] && mtime >= team->start;
}

int rot_team_look(rot_team *team, const char *name)
{
    char path[4400];
    double mtime;
    rot_claim_note note;
    path_of(team, name, path);
    if (rot_claim_read(path, &note, &mtime, NULL) < 0) return -1;
    pthread_mutex_lock(&team->mutex);
    bool stale = rot_claim_is_stale(&note, mtime, now(team), team->stale_seconds);
    pthread_mutex_unlock(&team->mutex);
    return stale ? 0 : 1;
}

// True for WHAT.THING, and for the note of it that a kill has left, WHAT.THING.tmp.OWNER.
static bool is_claim_on(const char *name, const char *what, const char *thing)
{
    size_t n = strlen(what), m = strlen(thing);
    if (strncmp(name, what, n) || name[n] != '.' || strncmp(name + n + 1, thing, m)) return false;
    name += n + 1 + m;
    return !*name || !strncmp(name, ".tmp.", 5);
}

static bool is_of_stage(rot_team *team, const char *name, const char *folder)
{
    (void)team;
    size_t n = strlen(folder);
    return (!strncmp(name, folder, n) && name[n] == '.') || is_claim_on(name, "finish", folder);
}

static bool is_of_dataset(rot_team *team, const char *name, const char *dataset)
{
    char path[4400];
    double mtime;
    rot_claim_note note;
    if (is_claim_on(name, "prepare", dataset) || is_claim_on(name, "finish", dataset)) return true;
    path_of(team, name, path);
    if (strncmp(name, "rank.", 5) || rot_claim_read(path, &note, &mtime, NULL) < 0) return false;
    return !strcmp(note.dataset, dataset) || rot_team_look(team, name) == 0;
}

static void sweep(rot_team *team, const char *of,
                  bool (*is_of)(rot_team *team, const char *name, const char *of))
{
    DIR *dir = opendir(team->dir);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.' && is_of(team, e->d_name, of)) unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
}

void rot_team_sweep_stage(rot_team *team, const char *folder)
{
    sweep(team, folder, is_of_stage);
}

void rot_team_sweep_dataset(rot_team *team, const char *dataset)
{
    char name[101]; // as claims have it
    snprintf(name, sizeof name, "%.100s", dataset);
    sweep(team, name, is_of_dataset);
}
