/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing JSON to a stream.
 */
#ifndef CLI_JSON_OUT_H
#define CLI_JSON_OUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 16

/**
 * struct json_out - where in a document the writer is.
 *
 * Begin with { .f = stream }. Every call takes the member's name, which is NULL in an array and at
 * the top. Errors are the stream's: see ferror(). A newline ends the document.
 */
struct json_out {
	FILE *f;
	unsigned int depth;
	bool filled[JSON_DEPTH_MAX];
};

/** json_open() - begin an object ('{') or an array ('['). */
void json_open(struct json_out *j, const char *name, char kind);
/** json_close() - end it ('}' or ']'). */
void json_close(struct json_out *j, char kind);

/** json_string() - what is not UTF-8 in @text becomes U+FFFD; NULL is null. */
void json_string(struct json_out *j, const char *name, const char *text);
void json_number(struct json_out *j, const char *name, int64_t n);
void json_bool(struct json_out *j, const char *name, bool b);
/** json_strings() - an array of strings, NULL-terminated. */
void json_strings(struct json_out *j, const char *name, const char *const *items);

#endif
