/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of confinement that have a file of their own.
 *
 * Each of these enters its layer and notes in the status how, or why not.
 */
#ifndef JAIL_LAYERS_H
#define JAIL_LAYERS_H

#include <stdint.h>

#include "jail/jail.h"

/** status_set() - note the state of a layer. */
void status_set(struct jail_status *s, bool on, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** namespaces_enter() - all of them, and an empty root. */
void namespaces_enter(const struct jail_config *c, struct jail_status *s);

/** namespaces_enter_outer() - those that another program lives with. */
void namespaces_enter_outer(void);

/** landlock_abi() - the version of Landlock here; 0: none. */
int landlock_abi(void);

/** landlock_suits() - it can confine the shares without harm to what is done with them. */
bool landlock_suits(const struct jail_config *c);

void landlock_enter(const struct jail_config *c, struct jail_status *s);

/** landlock_enter_program() - Return: 0 or -errno; 0 where there is no Landlock. */
int landlock_enter_program(const struct jail_program *p);

/** caps_keep() - give up every capability but those in @mask, for good. Return: 0 or -errno. */
int caps_keep(uint64_t mask);

/** caps_now() - the capabilities that are in force. */
uint64_t caps_now(void);

/** filter_prepare() - note deaths. */
void filter_prepare(const struct jail_config *c, struct jail_status *s);

/** filter_install() - the system call filter of @kind, for the calling thread. 0 or -errno. */
int filter_install(const struct jail_config *c, enum jail_kind kind);

#endif
