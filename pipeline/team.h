// The ranks of one build as one of them sees them: what it has claimed, kept alive by a thread of
// its own, and what the others have.
#ifndef ROT_PIPELINE_TEAM_H
#define ROT_PIPELINE_TEAM_H

#include "pipeline/claim.h"
#include "pipeline/ranks.h"

typedef struct rot_team rot_team;

// Makes ROOT/.rotoscope/claims and this rank's own claim, "rank.OWNER". `dataset` is what it
// builds; stale_seconds > 0.
int rot_team_open(const char *root, const char *dataset, const rot_ranks *ranks,
                  double stale_seconds, rot_team **out, rot_err *err);
// Releases what is held; if `error` is not NULL, leaves the work's claims with that as the reason.
void rot_team_close(rot_team **team, const char *error);

const rot_ranks *rot_team_ranks(const rot_team *team);
const char *rot_team_owner(const rot_team *team);
double rot_team_stale_seconds(const rot_team *team);

// 1: ours now (until released); 0: another's who is at work. *before as rot_claim_take has it.
int rot_team_claim(rot_team *team, const char *name, rot_claim_note *before, rot_err *err);
// How far the work under that claim is; said with the next heartbeat.
void rot_team_report(rot_team *team, const char *name, uint64_t row, uint64_t rows, double rate);
void rot_team_release(rot_team *team, const char *name);
// Why another who held `name` gave up since this rank began, into out; false: nobody did.
bool rot_team_gave_up(rot_team *team, const char *name, rot_claim_note *out);
// 1: `name` is held by one who is at work; 0: by one who is not any more; -1: by nobody.
int rot_team_look(rot_team *team, const char *name);
// Removes the claims on stage `folder`, which is finished.
void rot_team_sweep_stage(rot_team *team, const char *folder);
// The same for `dataset`, and the claims of its ranks, of which none is needed any more; those of
// other datasets' ranks that are gone, too.
void rot_team_sweep_dataset(rot_team *team, const char *dataset);

#endif
