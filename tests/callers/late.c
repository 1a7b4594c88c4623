/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opens a connection, says so, and when a line comes in makes a call that ends in another inside
 * libvirt.
 */

#include "caller.h"

int main(void)
{
	static const char xml[] =
		"<domain type='test'><name>web1</name><memory>1024</memory><os><type>hvm</type>"
		"</os></domain>";
	virConnectPtr conn = open_test();

	puts("ready");
	fflush(stdout);
	getchar();
	check(virDomainCreateLinux(conn, xml, 0), "virDomainCreateLinux");
	return 0;
}
