/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line on the terminal while an import runs: written at most ten times a second, first after a
 * moment, so that what is quick leaves no trace.
 */
#include "cli/progress.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/show.h"

#define FIRST_NS    INT64_C(300000000)
#define INTERVAL_NS INT64_C(100000000)
#define NAME_SHOWN  28

void progress_init(struct progress *p, const char *what, bool quiet, int (*cancelled)(void))
{
	const char *base = strrchr(what, '/');

	*p = (struct progress){
		.what = base && base[1] ? base + 1 : what,
		.shown = !quiet && isatty(2),
		.cancelled = cancelled,
		.began_ns = clock_ns(),
	};
}

static void print_line(struct progress *p, uint64_t total, int64_t now_ns)
{
	char done_text[16], total_text[16], rate_text[16], name[NAME_SHOWN + 1];
	double seconds = (double)(now_ns - p->began_ns) / 1e9;

	show_size(done_text, p->done_bytes);
	show_size(rate_text, (uint64_t)((double)p->done_bytes / seconds));
	fputs("\r\033[Kimporting ", stderr);
	snprintf(name, sizeof(name), "%s", p->what);
	show_text(stderr, name);
	if (total >= p->done_bytes && total)
		fprintf(stderr, "  %u %%  %s of %s",
			(unsigned int)((double)p->done_bytes * 100 / (double)total), done_text,
			show_size(total_text, total));
	else
		fprintf(stderr, "  %s", done_text);
	fprintf(stderr, "  %s/s", rate_text);
	fflush(stderr);
}

int progress_report(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct progress *p = ctx;
	int64_t now_ns;

	p->done_bytes = done_bytes;
	if (p->shown) {
		now_ns = clock_ns();
		if (now_ns - p->began_ns >= FIRST_NS && now_ns - p->printed_ns >= INTERVAL_NS) {
			print_line(p, total_bytes, now_ns);
			p->printed_ns = now_ns;
			p->visible = true;
		}
	}
	return p->cancelled ? p->cancelled() : 0;
}

void progress_end(struct progress *p)
{
	if (!p->visible)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	p->visible = false;
}
