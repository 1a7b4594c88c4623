/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shared library for reload.c: suspends the test driver's domain. */

#include "caller.h"

int plugin_call(void)
{
	virConnectPtr conn = open_test();
	virDomainPtr domain = find_domain(conn, "test");
	int result = virDomainSuspend(domain);

	virDomainFree(domain);
	virConnectClose(conn);
	return result;
}
