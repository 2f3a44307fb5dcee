// What a build leaves besides stages: the dataset file and the effective config.
#ifndef ROT_PIPELINE_DATASET_H
#define ROT_PIPELINE_DATASET_H

#include "pipeline/job.h"

// A split as planned: up to three stages, each planned once the one before it is there.
typedef struct rot_split_plan {
    rot_scan scan;
    rot_stage_plan stages[3]; // tokens, images, embeds
    int n_stages;
} rot_split_plan;

int rot_job_open(rot_job *job, const rot_config *config, const rot_build_options *options,
                 rot_err *err);
void rot_job_close(rot_job *job);

// True if the dataset's JSON and YAML files say exactly this.
bool rot_dataset_is_current(const rot_config *config, const rot_split_plan *plans);
// The effective config as ROOT/.rotoscope/NAME.yaml while a build is under way (`status` names it
// as the way to go on); rot_dataset_write puts it beside the dataset.
int rot_dataset_write_pending(const rot_config *config, rot_err *err);
// That file's content as it stands beside the dataset; the caller frees *sealed.
int rot_dataset_pending_config(const char *path, char **sealed, rot_err *err);
int rot_dataset_write(const rot_config *config, const rot_split_plan *plans, rot_err *err);
// The dataset file's content; the caller frees *json.
int rot_dataset_text(const rot_config *config, char **json, rot_err *err);
// A reused stage may hold rows skipped under another policy: under fail that is an error.
int rot_check_policies(const rot_config *config, const rot_split_plan *plans, rot_err *err);

int rot_plan_text(rot_job *job, const rot_split_plan *plans, char **json, rot_err *err);

#endif
