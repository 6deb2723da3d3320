/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of a run went.
 */
#ifndef CLI_RUN_TIMING_H
#define CLI_RUN_TIMING_H

#include <stdint.h>

#include <smolvm/smolvm.h>
#include <smolvm/vmm.h>

/** enum run_part - in the order in which they are shown. */
enum run_part {
	RUN_IMAGE,    /* the state folder, and finding or importing the image */
	RUN_PROBE,    /* the four of enum smolvm_phase */
	RUN_SPAWN,
	RUN_KERNEL,
	RUN_AGENT,
	RUN_EXEC,     /* the command */
	RUN_TEARDOWN, /* until nothing is left of the machine */
	RUN_TOTAL,
	RUN_PARTS
};

/**
 * struct run_timing - how long each part took; 0 for those that were not reached.
 * @counters: of the machine when its command had ended; all zeroes where they are not known.
 */
struct run_timing {
	int64_t began_ns;
	int64_t part_ns[RUN_PARTS];
	struct smolvm_machine_boot boot;
	struct smolvm_vmm_counters counters;
};

/** run_timing_machine() - take over what the machine measured. */
void run_timing_machine(struct run_timing *t, const struct smolvm_machine *m);

/** run_timing_counters() - take over the machine's counters, before its end. */
void run_timing_counters(struct run_timing *t, struct smolvm_machine *m);

/** run_timing_print() - on standard error. @format: "json", else a table. */
void run_timing_print(const struct run_timing *t, const char *format);

#endif
