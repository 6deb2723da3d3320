/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of "sandbox run", and what a run comes to with the image's own settings.
 */
#ifndef CLI_RUN_OPTIONS_H
#define CLI_RUN_OPTIONS_H

#include <smolvm/smolvm.h>

#include "cli/options.h"

/**
 * struct run_values - what the options say; see run_options for each.
 * @timing: NULL: none, "": a table, "json".
 */
struct run_values {
	struct strings env;
	struct strings env_files;
	struct volume volumes[VOLUMES_MAX];
	size_t n_volumes;
	const char *workdir, *user, *entrypoint;
	const char *name, *hostname, *kernel, *backend;
	unsigned int cpus, memory_mib, storage_mib;
	int64_t timeout_ms;
	bool interactive, tty, read_only, quiet, verbose, nested, insecure_no_jail;
	const char *timing;
};

extern const struct option_spec run_options[];

void run_values_fini(void *values);

/**
 * struct run_words - IMAGE and CMD of a command line.
 * @image:   NULL: the embedded one.
 * @command: NULL-terminated, maybe empty; points into the arguments.
 */
struct run_words {
	const char *image;
	char *const *command;
	size_t n_command;
};

/** run_words() - tell "IMAGE CMD", "IMAGE -- CMD" and "-- CMD" apart. */
void run_words(const struct arguments *args, struct run_words *ret);

/**
 * struct run_plan - what is run: options over the image's settings, in docker's way.
 * @argv: the entrypoint and the command.
 * @env:  the image's, then --env-file, then --env.
 * @cwd, @user: point into the options or the image.
 *
 * Lives no longer than the options and the image it was made from.
 */
struct run_plan {
	struct strings argv;
	struct strings env;
	const char *cwd;
	const char *user;
};

/**
 * run_plan_make() - Return: 0, -EINVAL (there is nothing to run), -E2BIG, -ENOMEM. run_plan_fini()
 * it in any case.
 */
int run_plan_make(struct run_plan *plan, const struct run_values *v, const struct run_words *words,
		  const struct smolvm_image *image, struct smolvm_error *err);
void run_plan_fini(struct run_plan *plan);

#endif
