/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Public functions that end in a jump to another one inside libvirt (9.0): virDomainCreateLinux and
 * virResetLastError, 23 times each.
 */

#include "caller.h"

int main(void)
{
	static const char xml[] =
		"<domain type='test'><name>web1</name><memory>1024</memory><os><type>hvm</type>"
		"</os></domain>";
	virConnectPtr conn = open_test();

	for (int i = 0; i < CALLS; i++) {
		virDomainPtr domain = virDomainCreateLinux(conn, xml, 0);

		check(domain && !virDomainDestroy(domain), "virDomainCreateLinux");
		virResetLastError();
	}
	return 0;
}
