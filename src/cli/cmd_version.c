/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smolvm version: which smolvm this is.
 */
#include <smolvm/smolvm.h>

#include "cli/commands.h"
#include "cli/json_out.h"
#include "cli/show.h"

struct version_values {
	bool json;
};

static const struct option_spec version_options[] = {
	{ .name = "json", .parse = option_flag, .offset = offsetof(struct version_values, json),
	  .help = "print JSON" },
	{ 0 }
};

static int version_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct version_values *v = values;
	struct json_out j = { .f = stdout };

	if (args->n) {
		show_message("'version' takes no arguments");
		return c->usage_status;
	}
	if (!v->json) {
		printf("smolvm %s\n", SMOLVM_VERSION);
		return 0;
	}
	json_open(&j, NULL, '{');
	json_string(&j, "version", SMOLVM_VERSION);
	json_string(&j, "library", smolvm_version());
	json_close(&j, '}');
	return 0;
}

const struct command command_version = {
	.name = "version",
	.summary = "print which smolvm this is",
	.synopsis = "[--json]",
	.options = version_options,
	.usage_status = EXIT_USAGE,
	.values_size = sizeof(struct version_values),
	.run = version_run,
};
