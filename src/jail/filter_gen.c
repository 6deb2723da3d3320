/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs while smolvm is built: makes the system call filters, a C header on standard output.
 *
 * The rules come from notes in the sources, see tools/syscall_notes.py. The filters are compiled
 * here so that smolvm-vmm needs no library for it and no time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/filter.h"
#include "jail/jail.h"

#define ALL_KINDS ((1u << JAIL_KINDS) - 1)
#define NAMESPACES                                                                                 \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | \
	 CLONE_NEWCGROUP)
#define OWN_PID FILTER_OWN_PID
#define INSNS_MAX 4096

enum action { ALLOW, NEVER, ABSENT };

struct rule {
	unsigned int kinds;
	enum action action;
	const char *name;
	int number;
	unsigned int checks, arg;
	uint64_t mask, value;
};

#define RULE(kinds, action, name, checks, arg, mask, value)                                        \
	{ kinds, action, #name, SCMP_SYS(name), checks, arg, mask, value },

static const struct rule rules[] = {
#include "filter_rules.h"
};
#define N_RULES (sizeof(rules) / sizeof(*rules))

static void fail(const char *what, const char *name, int rc)
{
	fprintf(stderr, "filter_gen: %s %s: %s\n", what, name, strerror(-rc));
	exit(1);
}

static void add(scmp_filter_ctx ctx, const struct rule *r)
{
	static const uint32_t actions[] = {
		[ALLOW] = SCMP_ACT_ALLOW,
		[NEVER] = SCMP_ACT_TRAP,
		[ABSENT] = SCMP_ACT_ERRNO(ENOSYS),
	};
	struct scmp_arg_cmp check =
		SCMP_CMP64(r->arg, SCMP_CMP_MASKED_EQ, (scmp_datum_t)r->mask,
			   (scmp_datum_t)(r->value & r->mask));
	uint32_t action = r->number == FILTER_DEATH ? SCMP_ACT_KILL_PROCESS : actions[r->action];
	int rc;

	if (r->number < 0)
		return; /* this architecture does not have it */
	rc = seccomp_rule_add_array(ctx, action, r->number, r->checks, &check);
	if (rc < 0 && rc != -EEXIST)
		fail("cannot add", r->name, rc);
}

static void print(const char *kind, const struct sock_filter *f, size_t n)
{
	printf("static const struct sock_filter filter_%s[] = {\n", kind);
	for (size_t i = 0; i < n; i++)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", f[i].code, f[i].jt, f[i].jf, f[i].k);
	printf("};\n");
}

static void make(enum jail_kind kind, const char *name)
{
	static struct sock_filter insns[INSNS_MAX];
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int fd = memfd_create("filter", 0), rc;
	ssize_t n;

	if (!ctx || fd < 0)
		fail("cannot make", name, -ENOMEM);
	seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; i < N_RULES; i++)
		if (rules[i].kinds & 1u << kind)
			add(ctx, &rules[i]);
	/* The kernel remembers which calls are always allowed; those with a check are run. */
	seccomp_syscall_priority(ctx, SCMP_SYS(ioctl), 255);
	rc = seccomp_export_bpf(ctx, fd);
	if (rc < 0)
		fail("cannot compile", name, rc);
	n = pread(fd, insns, sizeof(insns), 0);
	if (n <= 0 || n == sizeof(insns))
		fail("cannot read", name, -EFBIG);
	print(name, insns, (size_t)n / sizeof(*insns));
	close(fd);
	seccomp_release(ctx);
}

int main(void)
{
	static const char *const names[JAIL_KINDS] = { "main", "vcpu", "io", "worker", "fs" };

	printf("/* Made by filter_gen. */\n");
	for (unsigned int i = 0; i < JAIL_KINDS; i++)
		make(i, names[i]);
	printf("static const struct filter_name filter_names[] = {\n");
	for (size_t i = 0; i < N_RULES; i++)
		if (rules[i].action == NEVER && rules[i].number >= 0)
			printf("\t{ %d, \"%s\" },\n", rules[i].number, rules[i].name);
	printf("};\n");
	return ferror(stdout) ? 1 : 0;
}
