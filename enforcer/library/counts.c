/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts what each rule of a policy has decided: an atomic add for a call, read from outside.
 *
 * The numbers are in a memory file beside the policy's, whose size is sealed. The process can write
 * there, so they tell what it says of itself; what it forks counts in the same file.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "enforcer.h"

/* For a policy whose memory file has that inode; NULL: nothing is counted. */
struct counts *make_counts(uint64_t policy, uint32_t rules, size_t *size)
{
	int fd = policy ? memfd_create(COUNTS_FILE, MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
	struct counts *counts = MAP_FAILED;

	*size = offsetof(struct counts, count) + rules * sizeof(counts->count[0]);
	if (fd >= 0 && !ftruncate(fd, *size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		counts = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
			      0);
	if (fd >= 0)
		close(fd);
	if (counts == MAP_FAILED)
		return NULL;
	counts->policy = policy;
	counts->rules = rules;
	return counts;
}

void drop_counts(struct counts *counts, size_t size)
{
	if (counts)
		munmap(counts, size);
}
