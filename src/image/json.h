/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON documents: the only user of jansson.
 */
#ifndef IMAGE_JSON_H
#define IMAGE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

/* A document, or a value in it, which lives as long as the document. */
struct json_doc;

/**
 * json_doc_parse() - read a whole document.
 * @text: @len bytes, which need no NUL. Keys that come twice, NULs in strings, invalid UTF-8,
 *        more than one document, and nesting beyond a few thousand levels are refused.
 *
 * Errors: -EINVAL (where and why), -ENOMEM.
 */
int json_doc_parse(struct json_doc **ret, const char *text, size_t len, struct smolvm_error *err);
void json_doc_free(struct json_doc *doc);

/* In all of these @v may be NULL, which is a value that is missing; null is missing too. */

/** json_doc_get() - the member @key of an object; NULL when @v is none or has no such member. */
const struct json_doc *json_doc_get(const struct json_doc *v, const char *key);

/** json_doc_count() - elements of an array, members of an object; 0 for anything else. */
size_t json_doc_count(const struct json_doc *v);

/** json_doc_at() - element @i of an array, or NULL. */
const struct json_doc *json_doc_at(const struct json_doc *v, size_t i);

/** json_doc_string() - a string's text, or NULL when it is none. */
const char *json_doc_string(const struct json_doc *v);

/** json_doc_int() - an integer, or @otherwise. */
int64_t json_doc_int(const struct json_doc *v, int64_t otherwise);

/** json_doc_is_array(), json_doc_is_object() - what is it? */
int json_doc_is_array(const struct json_doc *v);
int json_doc_is_object(const struct json_doc *v);

#endif
