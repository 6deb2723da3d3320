/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which libsmolvm this is.
 */
#include <smolvm/smolvm.h>

const char *smolvm_version(void)
{
	return SMOLVM_VERSION;
}
