/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smolvm sandbox run: one command in a machine that is made for it and gone after it.
 *
 * The steps are those of struct run from top to bottom; each is undone by run_fini(), whichever was
 * reached. Signals follow run_signals.h, the terminal terminal.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <smolvm/smolvm.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/progress.h"
#include "cli/run_options.h"
#include "cli/run_signals.h"
#include "cli/run_timing.h"
#include "cli/terminal.h"

/**
 * struct run - how far a run has come.
 */
struct run {
	const struct run_values *v;
	struct run_words words;
	struct smolvm_control *control;
	struct smolvm *s;
	struct smolvm_image *image;
	struct run_plan plan;
	struct smolvm_machine *machine;
	struct smolvm_exec_result result;
	struct run_timing timing;
	struct smolvm_error err;
};

/* What can be said before anything is done. */
static int check(struct run *run)
{
	if (!run->words.image && run->words.n_command == 0)
		return err_set(&run->err, EINVAL,
			       "nothing to run: name an image, or put a command of "
			       "the built-in one behind --, as in: smolvm sandbox run -- uname -a");
	if (run->words.image && !*run->words.image)
		return err_set(&run->err, EINVAL, "the image's name is empty");
	if (run->v->tty && !isatty(0))
		return err_set(&run->err, EINVAL,
			       "the input is not a terminal: leave out --tty (-i "
			       "alone passes the input on)");
	if (!run->words.image || strcmp(run->words.image, "-"))
		return 0;
	if (run->v->interactive || run->v->tty)
		return err_set(&run->err, EINVAL,
			       "standard input cannot be both the image (-) and the "
			       "command's input (-i, -t); 'smolvm image import -' the image first");
	if (isatty(0))
		return err_set(&run->err, EINVAL,
			       "the image (-) is to come from standard input, which "
			       "is a terminal: pipe an archive into it");
	return 0;
}

/* A word that is no image was probably meant as a command. */
static void hint_at_command(struct run *run)
{
	const char *word = run->words.image;
	size_t n = strlen(run->err.message);

	if (word && !strpbrk(word, "/.:@") && strlen(word) < 32)
		snprintf(run->err.message + n, sizeof(run->err.message) - n,
			 " (for a command of the built-in image: smolvm sandbox run -- %s)", word);
}

static int get_image(struct run *run)
{
	const char *what = run->words.image ? run->words.image : SMOLVM_IMAGE_BASE;
	struct smolvm_import_options options = { .progress = progress_report };
	int64_t began_ns = clock_ns();
	struct progress progress;
	int r;

	r = smolvm_open(&run->s, NULL, &run->err);
	if (r)
		return r;
	progress_init(&progress, what, run->v->quiet, run_signals_ended);
	options.progress_ctx = &progress;
	r = smolvm_image_get(run->s, run->words.image, &options, &run->image, &run->err);
	progress_end(&progress);
	run->timing.part_ns[RUN_IMAGE] = clock_ns() - began_ns;
	if (r == -ENOENT)
		hint_at_command(run);
	if (!r && run->v->verbose)
		show_message("image %.19s (%.48s), read in %" PRId64 " ms", run->image->id, what,
			     run->timing.part_ns[RUN_IMAGE] / 1000000);
	return r;
}

static int start_machine(struct run *run)
{
	const struct run_values *v = run->v;
	struct smolvm_share shares[VOLUMES_MAX];
	struct smolvm_machine_config config = {
		.image = run->image,
		.name = v->name,
		.hostname = v->hostname,
		.cpus = v->cpus,
		.memory_mib = v->memory_mib,
		.storage_mib = v->storage_mib,
		.read_only = v->read_only,
		.shares = shares,
		.n_shares = v->n_volumes,
		.user = v->user,
		.kernel = v->kernel,
		.backend = v->backend,
		.nested = v->nested,
		.insecure_no_jail = v->insecure_no_jail,
		.verbose = v->verbose,
		.control = run->control,
	};
	int64_t began_ns = clock_ns();
	size_t i;
	int r;

	for (i = 0; i < v->n_volumes; i++)
		shares[i] = (struct smolvm_share){ .host = v->volumes[i].host,
						   .guest = v->volumes[i].guest,
						   .read_only = v->volumes[i].read_only };
	if (v->insecure_no_jail)
		show_message("WARNING: with --insecure-no-jail nothing confines this machine: "
			     "a guest that breaks out of it has all of your rights");
	r = smolvm_machine_start(run->s, &config, &run->machine, &run->err);
	if (r)
		return r;
	run_timing_machine(&run->timing, run->machine);
	if (v->verbose)
		show_message("machine %s is ready after %" PRId64 " ms",
			     smolvm_machine_name(run->machine), (clock_ns() - began_ns) / 1000000);
	return 0;
}

static int run_command(struct run *run)
{
	const struct run_values *v = run->v;
	struct smolvm_exec_config config = {
		.argv = (const char *const *)run->plan.argv.items,
		.env = (const char *const *)run->plan.env.items,
		.cwd = run->plan.cwd,
		.user = run->plan.user,
		.tty = v->tty,
		.stdin_fd = v->interactive || v->tty ? 0 : -1,
		.stdout_fd = 1,
		.stderr_fd = 2,
		.timeout_ms = v->timeout_ms,
		.control = run->control,
	};
	int64_t began_ns = clock_ns();
	int r;

	if (v->tty) {
		r = terminal_raw(&run->err);
		if (r)
			return r;
		terminal_size(&config.rows, &config.columns);
	}
	run_signals_to_command(run->image->stop_signal);
	/* One that came between the boot and here has cancelled what was already over. */
	if (run_signals_ended())
		r = -EINTR;
	else
		r = smolvm_exec(run->machine, &config, &run->result, &run->err);
	terminal_restore();
	run->timing.part_ns[RUN_EXEC] = clock_ns() - began_ns;
	return r;
}

static int run_steps(struct run *run)
{
	int r;

	r = smolvm_control_create(&run->control, &run->err);
	if (r)
		return r;
	run_signals_begin(run->control);
	r = get_image(run);
	if (!r)
		r = run_plan_make(&run->plan, run->v, &run->words, run->image, &run->err);
	if (!r && run_signals_ended())
		r = -EINTR;
	return r ? r : start_machine(run);
}

static void run_fini(struct run *run)
{
	int64_t began_ns = clock_ns();

	run_signals_end();
	smolvm_machine_destroy(run->machine);
	run_plan_fini(&run->plan);
	smolvm_image_free(run->image);
	smolvm_close(run->s);
	smolvm_control_destroy(run->control);
	run->timing.part_ns[RUN_TEARDOWN] = clock_ns() - began_ns;
}

/* What execve() says of a file that is there. */
static bool is_not_executable(int r)
{
	return r == -EACCES || r == -ENOEXEC || r == -ENOTDIR || r == -ELOOP || r == -E2BIG;
}

/* The exit code, and the message where there is one to give. @started: the command was reached. */
static int conclude(struct run *run, int r, bool started)
{
	int signal = run_signals_ended();

	if (r == 0)
		return run->result.signal ? 128 + run->result.signal : run->result.exit_code;
	if (signal)
		return 128 + signal;
	if (started && r == -ETIMEDOUT) {
		show_message("'%s' did not end within %g s (--timeout); it was ended",
			     run->plan.argv.items[0], (double)run->v->timeout_ms / 1000);
		return EXIT_RUN_TIMEOUT;
	}
	show_error(&run->err);
	if (started && r == -ENOENT)
		return EXIT_RUN_NOT_FOUND;
	if (started && is_not_executable(r))
		return EXIT_RUN_NOT_EXEC;
	return EXIT_RUN_FAILED;
}

static int sandbox_run(const struct command *c, void *values, const struct arguments *args)
{
	struct run run = { .v = values, .timing.began_ns = clock_ns() };
	bool started = false;
	int r, status;

	run_words(args, &run.words);
	r = check(&run);
	if (r) {
		show_error(&run.err);
		return c->usage_status;
	}
	r = run_steps(&run);
	if (!r) {
		started = true;
		r = run_command(&run);
		if (run.v->timing)
			run_timing_counters(&run.timing, run.machine);
	}
	status = conclude(&run, r, started);
	run_fini(&run);
	run.timing.part_ns[RUN_TOTAL] = clock_ns() - run.timing.began_ns;
	if (run.v->timing)
		run_timing_print(&run.timing, run.v->timing);
	return status;
}

static const struct exit_status run_statuses[] = {
	{ "0-255", "that of the command" },
	{ "128+N", "signal N ended the command, or smolvm's run of it" },
	{ "124", "the time of --timeout was up" },
	{ "125", "smolvm failed, or its command line is wrong; why is said on standard error" },
	{ "126", "the command cannot be executed" },
	{ "127", "there is no such command in the image" },
	{ 0 }
};

const struct command command_sandbox_run = {
	.name = "sandbox run",
	.summary = "run a command or an image in a virtual machine of its own",
	.synopsis = "[flags] [IMAGE] [--] [COMMAND...]",
	.description =
	"Boots a machine with a kernel of its own, runs the command in it, passes on its output "
	"and its exit code, and leaves nothing behind: what it wrote to its root file system is "
	"gone with it.\n\n"
	"IMAGE is the name or ID of an image that was imported before, or what 'smolvm image "
	"import' takes: an archive of 'docker save' or 'podman save', an OCI layout, a root "
	"file system (a folder as ./rootfs, so that no image's name is meant), or - for an "
	"archive on standard input. Without IMAGE, that is with -- in its place, the command "
	"runs in the built-in image (busybox). What follows IMAGE belongs to the command, "
	"options too; without a command, the image's own is run. The image's entrypoint, "
	"environment, folder and user count unless an option says otherwise, as with docker.\n\n"
	"Standard input goes to the command with -i only, or with -t; without, the command reads "
	"nothing and smolvm can stand in a loop that reads its own input.\n\n"
	"SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command "
	"(SIGTERM as the image's stop signal); a second SIGINT or SIGTERM ends the machine at "
	"once. With -t, ^C and ^Z are keys like any others and reach the guest as such.",
	.exit_statuses = run_statuses,
	.examples = {
		{ "a command in the built-in image", "smolvm sandbox run -- uname -a" },
		{ "a shell", "smolvm sandbox run -it -- sh" },
		{ "an image, and a folder that it can only read",
		  "smolvm sandbox run -v ./src:/src:ro -w /src ./python.tar -- python3 test.py" },
		{ "standard input and output in a pipeline",
		  "sort words.txt | smolvm sandbox run -i -- uniq -c" },
		{ "limits", "smolvm sandbox run --cpus 2 --mem 2g --timeout 5m ./image.tar" },
	},
	.options = run_options,
	.positional = COMPLETE_IMAGE,
	.stop_at_first = true,
	.usage_status = EXIT_RUN_FAILED,
	.values_size = sizeof(struct run_values),
	.run = sandbox_run,
	.fini = run_values_fini,
};
