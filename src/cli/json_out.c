/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing JSON (RFC 8259) to a stream, two spaces a level.
 */
#include "cli/json_out.h"

#include <assert.h>
#include <stddef.h>

/* Return: the bytes of the UTF-8 character at @p (RFC 3629), 0 when it is none. */
static size_t utf8_length(const unsigned char *p)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n, i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	/* No overlong forms, no surrogates, nothing above U+10FFFF. */
	if (p[0] == 0xe0)
		low = 0xa0;
	if (p[0] == 0xed)
		high = 0x9f;
	if (p[0] == 0xf0)
		low = 0x90;
	if (p[0] == 0xf4)
		high = 0x8f;
	for (i = 1; i < n; i++, low = 0x80, high = 0xbf)
		if (p[i] < low || p[i] > high)
			return 0;
	return n;
}

static void print_string(FILE *f, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	putc('"', f);
	for (; *p; p += n ? n : 1) {
		n = utf8_length(p);
		if (n == 0)
			fputs("\xef\xbf\xbd", f);
		else if (*p == '"' || *p == '\\')
			fprintf(f, "\\%c", *p);
		else if (*p == '\n')
			fputs("\\n", f);
		else if (*p == '\t')
			fputs("\\t", f);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(f, "\\u%04x", *p);
		else
			fwrite(p, 1, n, f);
	}
	putc('"', f);
}

static void indent(struct json_out *j)
{
	fprintf(j->f, "\n%*s", (int)j->depth * 2, "");
}

static void begin(struct json_out *j, const char *name)
{
	if (j->depth) {
		if (j->filled[j->depth - 1])
			putc(',', j->f);
		j->filled[j->depth - 1] = true;
		indent(j);
	}
	if (name) {
		print_string(j->f, name);
		fputs(": ", j->f);
	}
}

static void end(struct json_out *j)
{
	if (j->depth == 0)
		putc('\n', j->f);
}

void json_open(struct json_out *j, const char *name, char kind)
{
	begin(j, name);
	putc(kind, j->f);
	assert(j->depth < JSON_DEPTH_MAX);
	j->filled[j->depth++] = false;
}

void json_close(struct json_out *j, char kind)
{
	assert(j->depth > 0);
	if (j->filled[--j->depth])
		indent(j);
	putc(kind, j->f);
	end(j);
}

void json_string(struct json_out *j, const char *name, const char *text)
{
	begin(j, name);
	if (text)
		print_string(j->f, text);
	else
		fputs("null", j->f);
	end(j);
}

void json_number(struct json_out *j, const char *name, int64_t n)
{
	begin(j, name);
	fprintf(j->f, "%lld", (long long)n);
	end(j);
}

void json_bool(struct json_out *j, const char *name, bool b)
{
	begin(j, name);
	fputs(b ? "true" : "false", j->f);
	end(j);
}

void json_strings(struct json_out *j, const char *name, const char *const *items)
{
	json_open(j, name, '[');
	for (; items && *items; items++)
		json_string(j, NULL, *items);
	json_close(j, ']');
}
