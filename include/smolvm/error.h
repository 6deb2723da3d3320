/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error object that every fallible call of smolvm fills in.
 */
#ifndef SMOLVM_ERROR_H
#define SMOLVM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define SMOLVM_ERROR_MESSAGE_MAX 512

/**
 * struct smolvm_error - why a call failed.
 * @code:    a positive errno value; 0 while nothing has failed.
 * @message: one line for a person, NUL-terminated, without a newline: what failed, on what, why,
 *           and what to do next.
 *
 * Owned by the caller, of fixed size, never allocated from. Initialise it with
 * SMOLVM_ERROR_INIT. Wherever a function takes a pointer to one, NULL is allowed.
 */
struct smolvm_error {
	int code;
	char message[SMOLVM_ERROR_MESSAGE_MAX];
};

#define SMOLVM_ERROR_INIT { 0, "" }

#ifdef __cplusplus
}
#endif
#endif
