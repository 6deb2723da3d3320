/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people write as values on the command line, told apart and bounded.
 */
#ifndef CLI_VALUES_H
#define CLI_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#define STRINGS_MAX        (1u << 17)
#define ENV_MAX            4096u
#define ENV_FILE_MAX_BYTES (1u << 20)
#define VOLUMES_MAX        64u
#define DURATION_MAX_MS    (INT64_C(10000) * 3600 * 1000)

/**
 * struct strings - a list of strings that it owns, NULL-terminated once it holds one.
 *
 * All zeroes is the empty list.
 */
struct strings {
	char **items;
	size_t n;
};

/** strings_add() - append a copy. Return: 0, -E2BIG over STRINGS_MAX, -ENOMEM. */
int strings_add(struct strings *s, const char *text, struct smolvm_error *err);
void strings_fini(struct strings *s);

/**
 * env_set() - set a variable in a list of "NAME=VALUE", in place of one of the same name.
 * @entry: "NAME=VALUE"; "NAME" alone takes the value that smolvm itself has, and removes the
 *         variable from the list when it has none.
 *
 * Return: 0, -E2BIG over ENV_MAX variables, -ENOMEM.
 */
int env_set(struct strings *env, const char *entry, struct smolvm_error *err);

/** env_get() - the value of @name in the list, or NULL. */
const char *env_get(const struct strings *env, const char *name);

/** env_check() - is @entry "NAME=VALUE" or "NAME"? Return: 0 or -EINVAL. */
int env_check(const char *entry, struct smolvm_error *err);

/**
 * env_file_read() - append the lines of a file in the format of "docker run --env-file": a variable
 * per line, empty lines and lines that begin with # left out, nothing unquoted.
 *
 * Return: 0, -EINVAL (with the line's number), -EFBIG, -E2BIG, or -errno of reading it.
 */
int env_file_read(const char *path, struct strings *env, struct smolvm_error *err);

/**
 * value_number() - a whole number, in decimal, without a sign.
 * Return: 0, -EINVAL, or -ERANGE outside @min to @max.
 */
int value_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
		 struct smolvm_error *err);

/**
 * value_mib() - an amount in MiB: a number with a unit (k, m, g, t, also as in "GiB"), or without.
 * @unit: the unit of a number without one, 'm' or 'g'. What is not a whole MiB is rounded up.
 *
 * Return: 0, -EINVAL, or -ERANGE outside @min_mib to @max_mib.
 */
int value_mib(const char *text, char unit, uint64_t min_mib, uint64_t max_mib, uint64_t *ret,
	      struct smolvm_error *err);

/**
 * value_duration_ms() - a time: "30s", "1h30m", "500ms"; a number alone is in seconds.
 * Return: 0, -EINVAL (not one, or none at all), or -ERANGE over DURATION_MAX_MS.
 */
int value_duration_ms(const char *text, int64_t *ret, struct smolvm_error *err);

/**
 * struct volume - a path of the host that the guest is to see; owns its strings.
 * @host:  absolute.
 * @guest: absolute.
 */
struct volume {
	char *host;
	char *guest;
	bool read_only;
};

/** value_volume() - "HOST:GUEST[:ro|:rw]". Return: 0, -EINVAL, -ENOMEM, -errno of getcwd(). */
int value_volume(const char *text, struct volume *ret, struct smolvm_error *err);

/**
 * value_mount() - "type=bind,source=HOST,target=GUEST[,readonly]", fields in any order. A part in
 * double quotes may hold commas; a double quote in it is written twice.
 * Return: as value_volume().
 */
int value_mount(const char *text, struct volume *ret, struct smolvm_error *err);

void volume_fini(struct volume *v);

#endif
