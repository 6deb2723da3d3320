/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a command runs as, from the image's own /etc/passwd and /etc/group.
 */
#ifndef AGENT_USER_H
#define AGENT_USER_H

#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#define USER_FILE_MAX   (1u << 20) /* bytes read of each of the two files */
#define USER_GROUPS_MAX 256u	   /* supplementary groups; further ones are left out */
#define USER_NAME_MAX   256u
#define USER_HOME_MAX   1024u

/**
 * struct user - a resolved user.
 * @groups: the supplementary groups, @n_groups of them; none when a group was named explicitly.
 * @home:   from passwd; "/" when there is no entry.
 */
struct user {
	uint32_t uid, gid;
	uint32_t groups[USER_GROUPS_MAX];
	size_t n_groups;
	char home[USER_HOME_MAX];
};

/**
 * user_resolve() - pure: find @spec in the texts of the two files.
 * @spec:   "user", "uid", "user:group", "uid:gid" and mixtures; NULL or "": root.
 * @passwd: NUL-terminated text of /etc/passwd; NULL: there is none. Malformed lines are skipped.
 * @group:  likewise, /etc/group.
 *
 * A number need not be in the files (its group is then 0); a name must be.
 * Return: 0, -EINVAL with @err saying which name is unknown.
 */
int user_resolve(const char *spec, const char *passwd, const char *group, struct user *ret,
		 struct smolvm_error *err);

/**
 * user_lookup() - user_resolve() with the files below /etc; one that is missing is empty.
 *
 * May block when /etc is a shared folder. Return: as user_resolve().
 */
int user_lookup(const char *spec, struct user *ret, struct smolvm_error *err);

#endif
