/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* policy_copy.c: what policy_file.c takes policies in with. */
#ifndef POLICY_COPY_H
#define POLICY_COPY_H
#include <sys/stat.h>
#include "enforcer.h"

#define SECOND 1000000000LL	/* ns */

struct identity identity_of(const struct stat *st);
bool is_trusted(const struct stat *st);
bool begins_well(int fd, size_t size, const char **problem);
const void *copy_of(int fd, size_t size, uint64_t *inode);

#endif
