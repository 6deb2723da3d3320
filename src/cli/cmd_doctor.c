/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smolvm doctor: what machines would run on here, and what stands in the way.
 */
#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <smolvm/smolvm.h>

#include "base/fd.h"
#include "cli/commands.h"
#include "cli/json_out.h"
#include "cli/show.h"

struct doctor_values {
	const char *backend;
	bool json;
	bool strict;
};

static const struct option_spec doctor_options[] = {
	{ .name = "backend", .argument = "NAME", .parse = option_string,
	  .offset = offsetof(struct doctor_values, backend), .help = "look at this one only" },
	{ .name = "json", .parse = option_flag, .offset = offsetof(struct doctor_values, json),
	  .help = "print JSON" },
	{ .name = "strict", .parse = option_flag, .offset = offsetof(struct doctor_values, strict),
	  .help = "exit with 1 when there is anything to warn of" },
	{ 0 }
};

static const char *const status_words[] = { "ok", "warning", "unusable" };

static size_t status_index(const struct smolvm_check *check)
{
	return check->status < 0 ? 0 : check->status > 2 ? 2 : (size_t)check->status;
}

/* A backend that is chosen, and nothing missing that every machine needs. */
static bool can_run(const struct smolvm_diagnosis *d)
{
	const struct smolvm_check *check;

	for (check = d->checks; check < d->checks + d->n_checks; check++)
		if (check->status == 2 && strcmp(check->area, "backend"))
			return false;
	return d->backend[0] != '\0';
}

static void print_json(const struct smolvm_diagnosis *d)
{
	struct json_out j = { .f = stdout };
	const struct smolvm_check *check;

	json_open(&j, NULL, '{');
	json_bool(&j, "usable", can_run(d));
	json_string(&j, "backend", d->backend);
	json_string(&j, "accelerator", d->accelerator);
	json_string(&j, "reason", d->reason);
	json_open(&j, "checks", '[');
	for (check = d->checks; check < d->checks + d->n_checks; check++) {
		json_open(&j, NULL, '{');
		json_string(&j, "area", check->area);
		json_string(&j, "name", check->name);
		json_string(&j, "status", status_words[status_index(check)]);
		json_string(&j, "text", check->text);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	json_close(&j, '}');
}

static void print_check(const struct smolvm_check *check, bool new_area, int name_width)
{
	static const char *const unicode[] = { "\xe2\x9c\x93", "!", "\xe2\x9c\x97" };
	static const char *const ascii[] = { "+", "!", "x" };
	static const enum colour colours[] = { COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED };
	const char *const *symbols = strcmp(nl_langinfo(CODESET), "UTF-8") ? ascii : unicode;
	size_t i = status_index(check);
	unsigned int indent = 17 + (unsigned int)name_width;

	printf("%-12s%s%s%s  %-*s  ", new_area ? check->area : "", show_colour(stdout, colours[i]),
	       symbols[i], show_plain(stdout), name_width, check->name);
	show_fold(stdout, indent, indent, check->text);
}

static void print_table(const struct smolvm_diagnosis *d)
{
	const struct smolvm_check *first, *check;
	int width = 8;

	for (check = d->checks; check < d->checks + d->n_checks; check++)
		if ((int)strlen(check->name) > width && strlen(check->name) < 24)
			width = (int)strlen(check->name);
	for (first = d->checks; first < d->checks + d->n_checks; first++) {
		/* Each area once, with all that belongs to it. */
		for (check = d->checks; strcmp(check->area, first->area); check++)
			;
		if (check < first)
			continue;
		for (; check < d->checks + d->n_checks; check++)
			if (!strcmp(check->area, first->area))
				print_check(check, check == first, width);
	}
	putchar('\n');
	if (can_run(d)) {
		printf("Machines run on %s%s%s%s%s%s", show_colour(stdout, COLOUR_BOLD), d->backend,
		       d->accelerator[0] ? " with " : "", d->accelerator, show_plain(stdout),
		       d->reason[0] ? ": " : ".");
		show_fold(stdout, 0, 32, d->reason);
	} else {
		fputs("Machines cannot run here: ", stdout);
		show_fold(stdout, 0, 26, d->backend[0] ? "see what is marked above" : d->reason);
	}
}

/* A state folder that cannot be opened is a finding, not the end of the examination. */
static void add_home_failure(struct smolvm_diagnosis *d, const struct smolvm_error *err)
{
	struct smolvm_check *check;

	if (d->n_checks == SMOLVM_CHECKS_MAX)
		return;
	check = &d->checks[d->n_checks++];
	*check = (struct smolvm_check){ .area = "disk", .name = "state folder", .status = 2 };
	snprintf(check->text, sizeof(check->text), "%.250s", err->message);
}

/* Opening the state folder would make it, and an examination changes nothing. */
static bool home_exists(void)
{
	static const struct {
		const char *variable, *below;
	} places[] = { { "SMOLVM_HOME", "" },
		       { "XDG_DATA_HOME", "/smolvm" },
		       { "HOME", "/.local/share/smolvm" } };
	char path[PATH_MAX];
	const char *value;
	size_t i;

	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		value = getenv(places[i].variable);
		if (value && *value) {
			snprintf(path, sizeof(path), "%s%s", value, places[i].below);
			return access(path, F_OK) == 0;
		}
	}
	return false;
}

static int judge(const struct smolvm_diagnosis *d, bool strict)
{
	size_t i;

	for (i = 0; strict && i < d->n_checks; i++)
		if (d->checks[i].status)
			return EXIT_FAILED;
	return can_run(d) ? 0 : EXIT_FAILED;
}

static int doctor_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct doctor_values *v = values;
	struct smolvm_error err = SMOLVM_ERROR_INIT, home_err = SMOLVM_ERROR_INIT;
	AUTO_FREE struct smolvm_diagnosis *d = calloc(1, sizeof(*d));
	struct smolvm *s = NULL;
	bool home_ok = true;
	int r;

	if (args->n) {
		show_message("'doctor' takes no arguments; name a backend with --backend %s",
			args->items[0]);
		return c->usage_status;
	}
	if (!d) {
		show_message("out of memory");
		return EXIT_FAILED;
	}
	if (home_exists())
		home_ok = smolvm_open(&s, NULL, &home_err) == 0;
	r = smolvm_doctor(s, v->backend, d, &err);
	if (r) {
		show_error(&err);
		smolvm_close(s);
		return r == -EINVAL ? c->usage_status : EXIT_FAILED;
	}
	if (!home_ok)
		add_home_failure(d, &home_err);
	if (v->json)
		print_json(d);
	else
		print_table(d);
	smolvm_close(s);
	return home_ok ? judge(d, v->strict) : EXIT_FAILED;
}

static const struct exit_status doctor_statuses[] = {
	{ "0", "machines can run here (--strict: and there is nothing to warn of)" },
	{ "1", "machines cannot run here (--strict: or there is something to warn of)" },
	{ "2", "the command line is wrong" },
	{ 0 }
};

const struct command command_doctor = {
	.name = "doctor",
	.summary = "see what machines would run on here, and what stands in the way",
	.synopsis = "[--backend NAME] [--json] [--strict]",
	.description =
	"Looks at the platform, the backends that can run a machine, hardware acceleration, the "
	"guest kernel, the tools that are needed, disk space and limits, and says which backend "
	"would be chosen and why. A line that begins with ! says what could be better, one with a "
	"cross what does not work.",
	.exit_statuses = doctor_statuses,
	.examples = {
		{ "can machines run here?", "smolvm doctor" },
		{ "for a script", "smolvm doctor --json --strict" },
	},
	.options = doctor_options,
	.usage_status = EXIT_USAGE,
	.values_size = sizeof(struct doctor_values),
	.run = doctor_run,
};
