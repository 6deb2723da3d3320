/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of a run went: for people as a table, for programs as JSON, in milliseconds.
 */
#include "cli/run_timing.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const names[RUN_PARTS] = {
	[RUN_IMAGE] = "image",	 [RUN_PROBE] = "probe", [RUN_SPAWN] = "spawn",
	[RUN_KERNEL] = "kernel", [RUN_AGENT] = "agent", [RUN_EXEC] = "exec",
	[RUN_TEARDOWN] = "teardown", [RUN_TOTAL] = "total",
};

/* What is counted, in groups for the table. */
static const struct counter {
	const char *group, *name;
	size_t at;
} counters[] = {
#define COUNTER(group, name, member) { group, name, offsetof(struct smolvm_vmm_counters, member) }
	COUNTER("exits", "all", exits),
	COUNTER("exits", "mmio", exits_mmio),
	COUNTER("exits", "io", exits_io),
	COUNTER("exits", "halt", exits_halt),
	COUNTER("exits", "interrupted", exits_interrupted),
	COUNTER("exits", "other", exits_other),
	COUNTER("events", "notifies", notifies),
	COUNTER("events", "interrupts", interrupts),
	COUNTER("disk", "requests", disk_requests),
	COUNTER("disk", "bytes", disk_bytes),
	COUNTER("fs", "requests", fs_requests),
	COUNTER("fs", "bytes", fs_bytes),
	COUNTER("vsock", "packets", vsock_packets),
	COUNTER("vsock", "bytes", vsock_bytes),
	COUNTER("net", "packets", net_packets),
	COUNTER("net", "bytes", net_bytes),
	COUNTER("console", "bytes", console_bytes),
	COUNTER("rng", "bytes", rng_bytes),
	COUNTER("memory", "reported", reported_bytes),
	COUNTER("memory", "balloon", balloon_bytes),
	COUNTER("device", "errors", device_errors),
#undef COUNTER
};

static const char *group_of(size_t i)
{
	return i < sizeof(counters) / sizeof(counters[0]) ? counters[i].group : "";
}

static uint64_t value_of(const struct smolvm_vmm_counters *c, size_t i)
{
	uint64_t n;

	memcpy(&n, (const char *)c + counters[i].at, sizeof(n));
	return n;
}

/* A line for each group in which anything was counted. */
static void print_counters(const struct smolvm_vmm_counters *c)
{
	uint64_t sum = 0;

	for (size_t i = 0, first = 0; *group_of(i); i++) {
		sum |= value_of(c, i);
		if (!strcmp(group_of(i), group_of(i + 1)))
			continue;
		if (sum)
			fprintf(stderr, "%-10s", group_of(i));
		for (; first <= i; first++)
			if (sum)
				fprintf(stderr, " %s %" PRIu64, counters[first].name,
					value_of(c, first));
		if (sum)
			fputc('\n', stderr);
		sum = 0;
	}
}

static void print_counters_json(const struct smolvm_vmm_counters *c)
{
	fputs(", \"counters\": {", stderr);
	for (size_t i = 0; *group_of(i); i++)
		fprintf(stderr, "%s\"%s_%s\": %" PRIu64, i ? ", " : "", counters[i].group,
			counters[i].name, value_of(c, i));
	fputc('}', stderr);
}

void run_timing_counters(struct run_timing *t, struct smolvm_machine *m)
{
	/* What is not known is not shown. */
	if (smolvm_machine_counters(m, &t->counters, NULL) < 0)
		memset(&t->counters, 0, sizeof(t->counters));
}

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
	if (t->counters.exits && json)
		print_counters_json(&t->counters);
	else if (t->counters.exits)
		print_counters(&t->counters);
	if (json)
		fputs("}\n", stderr);
}
