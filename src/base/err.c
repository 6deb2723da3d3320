/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in error objects.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void make_printable(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
		else if (*s == '\xc2' && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0)
			s[0] = s[1] = '?'; /* U+0080 to U+009F, control characters as well */
	}
}

int err_set(struct smolvm_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->message, sizeof(err->message), fmt, ap);
		va_end(ap);
		make_printable(err->message);
	}
	return -code;
}

int err_sys(struct smolvm_error *err, const char *fmt, ...)
{
	int code = errno ? errno : EIO;
	va_list ap;
	size_t n;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->message, sizeof(err->message), fmt, ap);
		va_end(ap);
		n = strlen(err->message);
		snprintf(err->message + n, sizeof(err->message) - n, ": %s", strerror(code));
		make_printable(err->message);
	}
	return -code;
}

void err_prefix(struct smolvm_error *err, const char *fmt, ...)
{
	char old[SMOLVM_ERROR_MESSAGE_MAX];
	va_list ap;
	size_t n;

	if (!err)
		return;
	memcpy(old, err->message, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->message, sizeof(err->message), fmt, ap);
	va_end(ap);
	n = strlen(err->message);
	snprintf(err->message + n, sizeof(err->message) - n, ": %s", old);
	make_printable(err->message);
}

int err_nomem(struct smolvm_error *err)
{
	return err_set(err, ENOMEM, "out of memory");
}
