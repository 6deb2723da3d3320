/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the filters' generator and their user agree on.
 */
#ifndef JAIL_FILTER_H
#define JAIL_FILTER_H

#include <sys/syscall.h>

/* Stands in a filter for the process's number, which is put there when it is installed. */
#define FILTER_OWN_PID 0x5e1f9a7bu

/* The call that a thread makes to die of its filter: everywhere else it would do nothing. */
#define FILTER_DEATH SYS_reboot

#endif
