/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line on the terminal about an import that takes long.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct progress - what the line says and when it was written.
 * @what:      the source's name.
 * @shown:     there may be a line; only on a terminal.
 * @visible:   there is one now.
 * @cancelled: asked now and then: a value other than 0 abandons the import; may be NULL.
 */
struct progress {
	const char *what;
	bool shown;
	bool visible;
	int (*cancelled)(void);
	int64_t began_ns;
	int64_t printed_ns;
	uint64_t done_bytes;
};

/** progress_init() - @quiet: never a line. */
void progress_init(struct progress *p, const char *what, bool quiet, int (*cancelled)(void));

/** progress_report() - what struct smolvm_import_options wants; @ctx is the progress. */
int progress_report(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

/** progress_end() - clear the line; before anything else is printed. */
void progress_end(struct progress *p);

#endif
