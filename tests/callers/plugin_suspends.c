/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A plugin: work() suspends "test". With -DPRIVATE it uses one of libvirt's private symbols, too,
 * as only libvirt's own files should.
 */
#include <libvirt/libvirt.h>
#include <stddef.h>

#ifdef PRIVATE
extern void *virIdentityGetCurrent(void);
#endif

int work(void)
{
	virConnectPtr conn = virConnectOpen("test:///default");
	virDomainPtr domain = virDomainLookupByName(conn, "test");

#ifdef PRIVATE
	virIdentityGetCurrent();
#endif
	return virDomainSuspend(domain);
}
