/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages, tables, amounts and colours for people.
 */
#include "cli/show.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define MESSAGE_MAX 1024

void show_message(const char *fmt, ...)
{
	char line[MESSAGE_MAX] = "smolvm: ";
	size_t n = strlen(line);
	va_list ap;
	char *p;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	for (p = line; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	*p++ = '\n';
	/* One write, so that lines of several processes do not mix; nobody to tell when it fails.
	 */
	(void)fd_write_all(2, line, (size_t)(p - line));
}

void show_error(const struct smolvm_error *err)
{
	if (err->message[0])
		show_message("%s", err->message);
	else
		show_message("%s",
			     err->code ? strerror(err->code) : "failed, for an unknown reason");
}

int show_finish(void)
{
	int r;

	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	r = errno ? -errno : -EIO;
	if (r != -EPIPE)
		show_message("cannot write to standard output: %s", strerror(-r));
	clearerr(stdout);
	return r;
}

static bool coloured(FILE *f)
{
	const char *no = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	return isatty(fileno(f)) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

const char *show_colour(FILE *f, enum colour c)
{
	static const char *const sequences[] = { "", "\033[1m", "\033[32m", "\033[33m",
						 "\033[31m" };

	return coloured(f) ? sequences[c] : "";
}

const char *show_plain(FILE *f)
{
	return coloured(f) ? "\033[0m" : "";
}

void show_text(FILE *f, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	for (; *p; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			putc('?', f);
		} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
			putc('?', f); /* U+0080 to U+009F control terminals too */
			p++;
		} else {
			putc(*p, f);
		}
	}
}

void show_fold(FILE *f, unsigned int indent, unsigned int column, const char *text)
{
	bool first = true;
	size_t len;

	for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
		len = strcspn(text, " ");
		if (!first && column + 1 + len > SHOW_COLUMNS) {
			fprintf(f, "\n%*s", (int)indent, "");
			column = indent;
			first = true;
		}
		fprintf(f, "%s%.*s", first ? "" : " ", (int)len, text);
		column += (unsigned int)len + !first;
		first = false;
		text += len;
	}
	putc('\n', f);
}

const char *show_size(char buf[16], uint64_t bytes)
{
	static const char units[] = "kMGTPE";
	uint64_t tenths;
	size_t u = 0;

	if (bytes < 1000) {
		snprintf(buf, 16, "%u B", (unsigned int)bytes);
		return buf;
	}
	while (bytes >= 999950 && units[u + 1]) {
		bytes /= 1000;
		u++;
	}
	tenths = (bytes + 50) / 100;
	snprintf(buf, 16, "%u.%u %cB", (unsigned int)(tenths / 10) % 10000,
		 (unsigned int)(tenths % 10), units[u]);
	return buf;
}

const char *show_age(char buf[32], int64_t then_s, int64_t now_s)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {
		{ "year", 365 * 86400 }, { "month", 30 * 86400 }, { "week", 7 * 86400 },
		{ "day", 86400 }, { "hour", 3600 }, { "minute", 60 }, { "second", 1 },
	};
	int64_t age, n;
	size_t i;

	age = now_s > then_s ? now_s - then_s : 0;
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		n = age / units[i].seconds;
		if (n) {
			snprintf(buf, 32, "%lld %s%s ago", (long long)n, units[i].name,
				 n == 1 ? "" : "s");
			return buf;
		}
	}
	snprintf(buf, 32, "just now");
	return buf;
}
