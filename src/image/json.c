/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON documents.
 */
#include "image/json.h"

#include <errno.h>
#include <jansson.h>

#include "base/err.h"

static const json_t *value(const struct json_doc *v)
{
	return (const json_t *)v;
}

static const struct json_doc *present(const json_t *v)
{
	return v && !json_is_null(v) ? (const struct json_doc *)v : NULL;
}

int json_doc_parse(struct json_doc **ret, const char *text, size_t len, struct smolvm_error *err)
{
	json_error_t why;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	if (!root && json_error_code(&why) == json_error_out_of_memory)
		return err_nomem(err);
	if (!root)
		return err_set(err, EINVAL, "malformed JSON: line %d: %s", why.line, why.text);
	*ret = (struct json_doc *)root;
	return 0;
}

void json_doc_free(struct json_doc *doc)
{
	json_decref((json_t *)doc);
}

const struct json_doc *json_doc_get(const struct json_doc *v, const char *key)
{
	return present(json_object_get(value(v), key));
}

size_t json_doc_count(const struct json_doc *v)
{
	return json_is_object(value(v)) ? json_object_size(value(v)) : json_array_size(value(v));
}

const struct json_doc *json_doc_at(const struct json_doc *v, size_t i)
{
	return present(json_array_get(value(v), i));
}

const char *json_doc_string(const struct json_doc *v)
{
	return json_string_value(value(v));
}

int64_t json_doc_int(const struct json_doc *v, int64_t otherwise)
{
	return json_is_integer(value(v)) ? json_integer_value(value(v)) : otherwise;
}

int json_doc_is_array(const struct json_doc *v)
{
	return json_is_array(value(v));
}

int json_doc_is_object(const struct json_doc *v)
{
	return json_is_object(value(v));
}
