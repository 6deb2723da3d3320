/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's command line: parameters separated by blanks, some of them in double quotes.
 */
#include "vmm/cmdline.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

static int too_long(struct smolvm_error *err)
{
	return err_set(err, E2BIG, "the kernel's command line is too long: %u bytes is the most, "
		       "with a parameter for each device", SMOLVM_VMM_CMDLINE_MAX);
}

int cmdline_init(struct cmdline *c, const char *text, struct smolvm_error *err)
{
	size_t len = text ? strnlen(text, sizeof(c->text)) : 0;

	memset(c, 0, sizeof(*c));
	if (len > SMOLVM_VMM_CMDLINE_MAX)
		return too_long(err);
	if (len)
		memcpy(c->text, text, len);
	c->bytes = (unsigned int)len;
	return 0;
}

/* Where the kernel's own parameters end: before a "--" that stands alone, or at the end. */
static unsigned int kernel_end(const struct cmdline *c)
{
	bool quoted = false, begins = true;

	for (unsigned int i = 0; i < c->bytes; i++) {
		const char *p = c->text + i;

		if (begins && !quoted && p[0] == '-' && p[1] == '-' && (p[2] == ' ' || !p[2]))
			return i;
		if (*p == '"')
			quoted = !quoted;
		begins = *p == ' ';
	}
	return c->bytes;
}

int cmdline_add(struct cmdline *c, const char *parameter, struct smolvm_error *err)
{
	size_t len = strlen(parameter);
	unsigned int at = kernel_end(c);
	bool blank_before = at > 0 && c->text[at - 1] != ' ', blank_after = at < c->bytes;
	char *p = c->text + at;

	if (len + blank_before + blank_after > SMOLVM_VMM_CMDLINE_MAX - c->bytes)
		return too_long(err);
	memmove(p + len + blank_before + blank_after, p, c->bytes - at + 1);
	if (blank_before)
		*p++ = ' ';
	memcpy(p, parameter, len);
	if (blank_after)
		p[len] = ' ';
	c->bytes += (unsigned int)len + blank_before + blank_after;
	return 0;
}
