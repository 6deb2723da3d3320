/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For clang-tidy only, put in front of every file: what it cannot see across files, that the
 * functions of base/err.h always return a negative number.
 */
#ifndef TOOLS_ANALYZER_H
#define TOOLS_ANALYZER_H

#include <errno.h>

#include "base/err.h"

#define err_set(err, code, ...) ((void)(err_set)(err, code, __VA_ARGS__), -(code))
#define err_sys(err, ...)	((void)(err_sys)(err, __VA_ARGS__), -EIO)
#define err_nomem(err)		((void)(err_nomem)(err), -ENOMEM)

#endif
