// From config to dataset: plan, build, resume; and what can be said about a root.
#ifndef ROTOSCOPE_BUILD_H
#define ROTOSCOPE_BUILD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rot_progress {
    const char *split, *stage; // "train", "embeds"
    uint64_t done, total;      // rows
    uint64_t resumed;          // rows of `done` that were there before this run
    double seconds;            // since this stage began
    // Stage embeds; all 0 elsewhere. Of this run, up to now.
    uint64_t images, merged_tokens; // embedded
    double flop;                    // of matrix products in the tower
    double encoding_seconds;        // since the first image went into the tower
} rot_progress;

typedef struct rot_build_options {
    size_t size;
    int threads;                       // 0: rot_threads_available()
    bool rehash;                       // forget remembered hashes of big files
    const volatile sig_atomic_t *stop; // non-zero: finish the commit unit, return ROT_ERR_STOPPED
    void (*progress)(void *user, const rot_progress *progress); // may be NULL
    // A line of news: a skipped row and the like; may be NULL.
    void (*note)(void *user, const char *message);
    void *user;
    // This process is rank `rank` of `ranks` that build one root together (docs/scaling.md). Both
    // -1: what a launcher's variables say (torchrun, Open MPI, PMI, Slurm), else alone.
    int rank, ranks;
    double stale_seconds; // a rank silent for so long has its work taken over; 0: 60
    const char *scratch;  // folder of this machine for unfinished shards; NULL: in the root
    bool no_preflight;    // begin even if the disk seems too small for what is to be made
    bool prepare_only;    // as a rank: end when tokens and images are there; *json is NULL
    // NULL, or where a JSON object is put that says where the time went (freed by the caller): the
    // stages that were made, and for embeds the shares of the tower, its own stages, and the rest.
    char **profile;
} rot_build_options;

// All threads, no callbacks, ranks by the environment.
rot_build_options rot_build_options_default(void);

// What a build would do: stages, which exist already, rows, bytes, an estimate of the time. JSON,
// freed by the caller. Writes nothing but remembered hashes.
int rot_build_plan(const rot_config *config, const rot_build_options *options, char **json,
                   rot_err *err);

// Builds or resumes. *json: the dataset file's content. ROT_ERR_STOPPED: run again.
// ROT_ERR_LOCKED: another build has the root (ranks share it among themselves). ROT_ERR_USAGE: a
// launcher's variables contradict each other. ROT_ERR_NOT_FOUND: this machine lacks the backend
// that the ranks have planned. One of many ranks comes back when all is built, whoever built it.
int rot_build(const rot_config *config, const rot_build_options *options, char **json,
              rot_err *err);

// Reports, as JSON, on a ROOT (folder) or a DATASET (file); the caller frees *json.
int rot_stats(const char *path, char **json, rot_err *err);
int rot_status(const char *path, char **json, rot_err *err);
// What the fingerprints of a dataset's stages are made of; `other` (may be NULL): another dataset
// or stage folder, and the parts that differ.
int rot_why(const char *path, const char *other, char **json, rot_err *err);

// Stages of a root that no dataset there names, with their bytes; removed if `remove` (stage.json
// first, so that one half removed reads as none). ROT_ERR_LOCKED: a build is using the root.
int rot_gc(const char *root, bool remove, char **json, rot_err *err);

// Makes the bad records of a dataset again and puts the mended shards in place of the bad ones, by
// the effective config beside the dataset; stage.json, the dataset file and the config are written
// anew if they are broken. The root stays what it was. *json: per stage how many records were bad
// and how many were made. ROT_ERR_CORRUPT: something could not be mended; ROT_ERR_UNSUPPORTED: a
// backend that this machine lacks; ROT_ERR_INPUT: input, font, tokenizer or checkpoint are no more
// what they were; ROT_ERR_STOPPED: run again; ROT_ERR_LOCKED.
int rot_repair(const char *dataset, const rot_build_options *options, char **json, rot_err *err);

// One sample in full, as JSON: texts, ids, image size, grid, K, figures of its embeddings, or why
// it was skipped. By `id` if that is not NULL, else by `index`. `split` may be NULL if there is one
// split alone. png (may be NULL): a file that its picture is written to. ROT_ERR_NOT_FOUND: no such
// split, row or id.
int rot_inspect(const char *dataset, const char *split, uint64_t index, const char *id,
                const char *png, char **json, rot_err *err);

// One dataset as one self-contained HTML page, freed by the caller: settings, counts, skipped rows,
// rendered traces with their patches, histograms, bytes. ROT_ERR_CORRUPT: a record that is read is.
int rot_report(const char *dataset_path, char **html, rot_err *err);

// Synthetic data: `rows` samples like "gsm8k-aug" (word problems with equations, in its text format
// and lengths), "gsm8k" (the same solved in words, GSM8K's JSONL), "prosqa" (questions on graphs,
// Coconut's JSON), "prontoqa" (true or false along a chain of kinds, Coconut's JSON) or
// "arithmetic" (chained, in GSM8k-Aug's format). The arithmetic is right; row i is a function of
// the options but `rows` and of i alone, so the same seed writes the same bytes everywhere.
typedef struct rot_init_data_options {
    size_t size;      // sizeof(rot_init_data_options)
    const char *like; // "gsm8k-aug"
    uint64_t rows, seed;
    const char *split; // "train", "valid", "test": questions that no other split has; NULL: all
    // Of arithmetic: operations (2 to 6), and what no number is above (9999); 0: as said here.
    int min_steps, max_steps, largest;
} rot_init_data_options;
// The values named above; no rows.
rot_init_data_options rot_init_data_options_default(void);
// `path` appears when it is whole; "-" is standard output. ROT_ERR_USAGE: no such kind or split, no
// rows, bounds that have no effect.
int rot_init_data(const rot_init_data_options *options, const char *path, rot_err *err);

// Processors this process may use: affinity mask, SLURM_CPUS_PER_TASK; at least 1.
int rot_threads_available(void);

// What this machine offers: cpu paths, libraries with versions, limits, and the file system of
// `root` (may be NULL). JSON, freed by the caller.
int rot_doctor(const char *root, char **json, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
