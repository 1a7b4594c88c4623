/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks for parameters that are there and that are not, into variables that hold something; asks
 * for an event without a loop.
 */

#include "caller.h"

static void nothing(int timer, void *opaque)
{
	(void)timer;
	(void)opaque;
}

int main(void)
{
	virTypedParameterPtr params = NULL;
	int count = 0, most = 0, value = 12345;
	const char *text = "what was there before";

	check(!virInitialize(), "virInitialize");
	check(!virTypedParamsAddInt(&params, &count, &most, "there", 23), "virTypedParamsAddInt");
	check(virTypedParamsGetInt(params, count, "nosuch", &value) == 0 && value == 12345,
	      "virTypedParamsGetInt");
	check(virTypedParamsGetString(params, count, "nosuch", &text) == 0,
	      "virTypedParamsGetString");
	check(virTypedParamsGetInt(params, count, "there", &value) == 1 && value == 23,
	      "virTypedParamsGetInt");
	check(virEventAddTimeout(1, nothing, NULL, NULL) == -1, "virEventAddTimeout");
	virTypedParamsFree(params, count);
	puts("[]");
	return 0;
}
