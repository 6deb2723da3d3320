/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of "sandbox run", and how they and an image make a command to run.
 */
#include "cli/run_options.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/err.h"

/* ---------------------------------------------------------------- parsers of its own */

static int add_volume(void *target, const char *value,
		      int (*parse)(const char *text, struct volume *ret, struct smolvm_error *err),
		      struct smolvm_error *err)
{
	struct run_values *v = target;
	int r;

	if (v->n_volumes == VOLUMES_MAX)
		return err_set(err, E2BIG, "more than %u shared folders", VOLUMES_MAX);
	r = parse(value, &v->volumes[v->n_volumes], err);
	if (!r)
		v->n_volumes++;
	return r;
}

static int parse_volume(const struct option_spec *spec, void *target, const char *value,
			struct smolvm_error *err)
{
	return add_volume(target, value, value_volume, err);
}

static int parse_mount(const struct option_spec *spec, void *target, const char *value,
		       struct smolvm_error *err)
{
	return add_volume(target, value, value_mount, err);
}

static int parse_absolute(const struct option_spec *spec, void *target, const char *value,
			  struct smolvm_error *err)
{
	if (value[0] != '/')
		return err_set(err, EINVAL, "'%s' must begin with /", value);
	return option_string(spec, target, value, err);
}

static int parse_network(const struct option_spec *spec, void *target, const char *value,
			 struct smolvm_error *err)
{
	return err_set(err, ENOTSUP, "networking is not in this version of smolvm yet; sandboxes "
		       "run without a network");
}

#define AT(member) .offset = offsetof(struct run_values, member)

const struct option_spec run_options[] = {
	{ .letter = 'e', .name = "env", .argument = "NAME[=VALUE]", .parse = option_env,
	  AT(env), .repeats = true, .group = "The command",
	  .help = "set an environment variable; NAME alone: as it is here" },
	{ .name = "env-file", .argument = "FILE", .parse = option_env_file, AT(env_files),
	  .repeats = true, .complete = COMPLETE_FILE,
	  .help = "set variables from a file, a NAME=VALUE per line" },
	{ .letter = 'w', .name = "workdir", .argument = "DIR", .parse = parse_absolute,
	  AT(workdir), .help = "run it in this folder of the guest" },
	{ .letter = 'u', .name = "user", .argument = "USER[:GROUP]", .parse = option_string,
	  AT(user), .help = "run it as this user of the guest, a name or a number" },
	{ .name = "entrypoint", .argument = "PROGRAM", .parse = option_string, AT(entrypoint),
	  .help = "instead of the image's entrypoint, whose command is then left out too; \"\" "
	  "for none" },
	{ .letter = 'i', .name = "interactive", .parse = option_flag, AT(interactive),
	  .help = "standard input goes to the command; without this it reads nothing" },
	{ .letter = 't', .name = "tty", .parse = option_flag, AT(tty),
	  .help = "run it on a terminal; needs one as standard input, which goes to the "
	  "command" },
	{ .name = "timeout", .argument = "TIME", .parse = option_duration, AT(timeout_ms),
	  .help = "end it after this time (30s, 5m, 1h30m, 500ms), counted from its start in "
	  "the booted machine; exit with 124" },

	{ .letter = 'v', .name = "volume", .argument = "HOST:GUEST[:ro]", .parse = parse_volume,
	  .repeats = true, .group = "Files", .complete = COMPLETE_FILE,
	  .help = "share a folder or file of this host; :ro: the guest cannot change it" },
	{ .name = "mount", .argument = "FIELDS", .parse = parse_mount, .repeats = true,
	  .help = "the same as type=bind,source=HOST,target=GUEST[,readonly], for names with a "
	  "colon in them; double quotes keep commas together" },
	{ .name = "read-only", .parse = option_flag, AT(read_only),
	  .help = "the root file system cannot be written, but for /tmp, /run and /var/tmp" },

	{ .name = "cpus", .argument = "N", .parse = option_number, AT(cpus), .min = 1,
	  .max = SMOLVM_CPUS_MAX, .group = "The machine", .help = "virtual CPUs (1)" },
	{ .letter = 'm', .name = "mem", .argument = "SIZE", .parse = option_mib, AT(memory_mib),
	  .min = SMOLVM_MEMORY_MIB_MIN, .max = SMOLVM_MEMORY_MIB_MAX,
	  .help = "memory, in MiB or with a unit: 512, 512m, 2g (1g); the host gives it only "
	  "as it is used" },
	{ .name = "storage", .argument = "SIZE", .parse = option_gib, AT(storage_mib),
	  .min = SMOLVM_STORAGE_MIB_MIN, .max = SMOLVM_STORAGE_MIB_MAX,
	  .help = "room for what is written to the root file system, in GiB or with a unit: "
	  "20, 512m (20g); takes only what is used" },
	{ .name = "name", .argument = "NAME", .parse = option_string, AT(name),
	  .help = "what the machine is called; without this a name is made up" },
	{ .name = "hostname", .argument = "NAME", .parse = option_string, AT(hostname),
	  .help = "the guest's host name; without this, the machine's name" },
	{ .name = "kernel", .argument = "FILE", .parse = option_string, AT(kernel),
	  .complete = COMPLETE_FILE,
	  .help = "boot this vmlinux or bzImage instead of smolvm's own" },
	{ .name = "backend", .argument = "NAME", .parse = option_string, AT(backend),
	  .help = "what runs the machine; 'smolvm doctor' shows what there is, and what is "
	  "chosen without this" },

	{ .name = "nested", .parse = option_flag, AT(nested),
	  .help = "the guest may run virtual machines of its own: it has a /dev/kvm that works" },
	{ .name = "insecure-no-jail", .parse = option_flag, AT(insecure_no_jail),
	  .help = "do not confine the machine's process, and warn about that: for finding faults "
	  "of smolvm itself only" },

	{ .letter = 'p', .name = "publish", .argument = "[HOST:]GUEST", .parse = parse_network,
	  .repeats = true, .group = "Network (not in this version yet)",
	  .help = "an error for now: make a port of the guest reachable" },
	{ .name = "net", .argument = "[=MODE]", .parse = parse_network,
	  .help = "an error for now: let the guest use the network" },

	{ .letter = 'q', .name = "quiet", .parse = option_flag, AT(quiet), .group = "Messages",
	  .help = "no progress while an image is imported" },
	{ .name = "verbose", .parse = option_flag, AT(verbose),
	  .help = "say what is done, and show the guest kernel's messages" },
	{ .name = "timing", .argument = "[=FORMAT]", .parse = option_word, AT(timing),
	  .complete = COMPLETE_WORDS, .words = "table json",
	  .help = "show where the time went, as a table or as json, on standard error; also what "
	  "the machine counted (exits, requests, bytes), where its backend counts" },
	{ 0 }
};

void run_values_fini(void *values)
{
	struct run_values *v = values;

	strings_fini(&v->env);
	strings_fini(&v->env_files);
	while (v->n_volumes)
		volume_fini(&v->volumes[--v->n_volumes]);
}

/* ---------------------------------------------------------------- image and command */

void run_words(const struct arguments *args, struct run_words *ret)
{
	char *const *rest = args->items;
	size_t n = args->n;

	*ret = (struct run_words){ 0 };
	if (!args->separated && n) {
		ret->image = *rest++;
		n--;
		if (n && !strcmp(*rest, "--")) {
			rest++;
			n--;
		}
	}
	ret->command = rest;
	ret->n_command = n;
}

static int add_all(struct strings *list, const char *const *items, struct smolvm_error *err)
{
	int r = 0;

	for (; items && *items && !r; items++)
		r = strings_add(list, *items, err);
	return r;
}

static int plan_argv(struct run_plan *plan, const struct run_values *v,
		     const struct run_words *words, const struct smolvm_image *image,
		     struct smolvm_error *err)
{
	int r = 0;

	if (!v->entrypoint)
		r = add_all(&plan->argv, image->entrypoint, err);
	else if (v->entrypoint[0])
		r = strings_add(&plan->argv, v->entrypoint, err);
	if (!r && words->n_command)
		r = add_all(&plan->argv, (const char *const *)words->command, err);
	else if (!r && !v->entrypoint)
		r = add_all(&plan->argv, image->cmd, err);
	if (!r && plan->argv.n == 0)
		r = err_set(err, EINVAL, "the image does not say what to run, and no command is "
			    "given: add one behind the image");
	return r;
}

static int plan_env(struct run_plan *plan, const struct run_values *v,
		    const struct smolvm_image *image, struct smolvm_error *err)
{
	const char *const *e;
	size_t i;
	int r = 0;

	/* An image cannot take variables from here, as "NAME" alone would. */
	for (e = image->env; e && *e && !r; e++)
		if (**e != '=' && strchr(*e, '='))
			r = env_set(&plan->env, *e, err);
	for (i = 0; i < v->env_files.n && !r; i++)
		r = env_set(&plan->env, v->env_files.items[i], err);
	for (i = 0; i < v->env.n && !r; i++)
		r = env_set(&plan->env, v->env.items[i], err);
	if (!r && v->tty && !env_get(&plan->env, "TERM"))
		r = env_set(&plan->env, "TERM", err);
	return r;
}

int run_plan_make(struct run_plan *plan, const struct run_values *v, const struct run_words *words,
		  const struct smolvm_image *image, struct smolvm_error *err)
{
	int r;

	*plan = (struct run_plan){
		.cwd = v->workdir ? v->workdir : image->workdir,
		.user = v->user ? v->user : image->user,
	};
	r = plan_argv(plan, v, words, image, err);
	return r ? r : plan_env(plan, v, image, err);
}

void run_plan_fini(struct run_plan *plan)
{
	strings_fini(&plan->argv);
	strings_fini(&plan->env);
}
