/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of a run went: for people as a table, for programs as JSON, in milliseconds.
 */
#include "cli/run_timing.h"

#include <stdio.h>
#include <string.h>

static const char *const names[RUN_PARTS] = {
	[RUN_IMAGE] = "image",	 [RUN_PROBE] = "probe", [RUN_SPAWN] = "spawn",
	[RUN_KERNEL] = "kernel", [RUN_AGENT] = "agent", [RUN_EXEC] = "exec",
	[RUN_TEARDOWN] = "teardown", [RUN_TOTAL] = "total",
};

void run_timing_machine(struct run_timing *t, const struct smolvm_machine *m)
{
	int phase;

	for (phase = 0; phase < SMOLVM_PHASES; phase++)
		t->part_ns[RUN_PROBE + phase] =
			smolvm_machine_phase_ns(m, (enum smolvm_phase)phase);
	smolvm_machine_boot(m, &t->boot);
}

/* What the kernel's part was made of, where that is known. */
static void print_boot(const struct smolvm_machine_boot *b, int json)
{
	const struct {
		const char *name;
		int64_t ns;
	} parts[] = { { "load", b->load_ns }, { "enter", b->enter_ns },
		      { "driver", b->driver_ns } };

	if (!b->exits)
		return;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (json)
			fprintf(stderr, ", \"kernel_%s_ms\": %.3f", parts[i].name,
				(double)parts[i].ns / 1e6);
		else
			fprintf(stderr, "  %-8s%10.1f ms of kernel\n", parts[i].name,
				(double)parts[i].ns / 1e6);
	}
	if (json)
		fprintf(stderr, ", \"exits\": %llu", (unsigned long long)b->exits);
	else
		fprintf(stderr, "  %-8s%10llu before hello\n", "exits",
			(unsigned long long)b->exits);
}

void run_timing_print(const struct run_timing *t, const char *format)
{
	int json = !strcmp(format, "json");
	int i;

	for (i = 0; i < RUN_PARTS; i++) {
		if (json)
			fprintf(stderr, "%s\"%s_ms\": %.3f", i ? ", " : "{", names[i],
				(double)t->part_ns[i] / 1e6);
		else
			fprintf(stderr, "%-10s%10.1f ms\n", names[i], (double)t->part_ns[i] / 1e6);
	}
	print_boot(&t->boot, json);
	if (json)
		fputs("}\n", stderr);
}
