/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Takes a policy's file in: an open file comes in; whether it may be obeyed, and a write-protected
 * copy of it, goes out.
 *
 * A copy is a sealed memory file rather than a mapping of the policy's own, so that overwriting or
 * truncating that one harms nobody, and `libvirt-trace ps` can read what is in force from the
 * outside.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "policy_copy.h"

struct identity identity_of(const struct stat *st)
{
	return (struct identity){ st->st_dev, st->st_ino, st->st_size,
				  st->st_mtim.tv_sec * SECOND + st->st_mtim.tv_nsec,
				  st->st_ctim.tv_sec * SECOND + st->st_ctim.tv_nsec };
}

/*
 * Only for whoever may write there: what root obeys only root may write, what others obey only root
 * and they.
 */
bool is_trusted(const struct stat *st)
{
	return S_ISREG(st->st_mode) && !(st->st_mode & 022) &&
	       (st->st_uid == 0 || (geteuid() != 0 && st->st_uid == geteuid()));
}

static bool read_all(int fd, void *to, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, (char *)to + done, size - done);

		if (n <= 0) {
			if (n < 0 && errno == EINTR)
				continue;
			return false;
		}
		done += n;
	}
	return true;
}

/* Half the time that reading into a mapping takes, whose pages have to be cleared first. */
static bool send_all(int fd, int copy, size_t size)
{
	off_t done = 0;

	while (done < (off_t)size) {
		ssize_t n = sendfile(copy, fd, &done, size - done);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
	}
	return true;
}

/* Sealed memory with the file's content; MAP_FAILED where there is no such thing. */
static const void *sealed_copy_of(int fd, size_t size, uint64_t *inode)
{
	int copy = memfd_create(MEMORY_FILE, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *data = MAP_FAILED;
	struct stat st;

	if (copy < 0)
		return MAP_FAILED;
	if (send_all(fd, copy, size) && !fstat(copy, &st) &&
	    !fcntl(copy, F_ADD_SEALS,
		   F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		/* populated, since a call waits for it, and it is read as a whole */
		data = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, copy, 0);
		*inode = st.st_ino;
	}
	close(copy);
	return data;
}

/*
 * A private copy of the open file, which nobody can write to; NULL. *inode: of the memory file, 0
 * if it is in none.
 */
const void *copy_of(int fd, size_t size, uint64_t *inode)
{
	const void *sealed = sealed_copy_of(fd, size, inode);
	void *data;

	if (sealed != MAP_FAILED)
		return sealed;
	*inode = 0;
	data = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (data == MAP_FAILED)
		return NULL;
	if (!read_all(fd, data, size)) {
		munmap(data, size);
		return NULL;
	}
	mprotect(data, size, PROT_READ);
	return data;
}

/*
 * Whether the file begins as a policy of its size and for this library does: what doesn't is not
 * read as a whole.
 */
bool begins_well(int fd, size_t size, const char **problem)
{
	struct head head;

	*problem = "it can't be read";
	return pread(fd, &head, sizeof(head), 0) == sizeof(head) &&
	       check_head(&head, size, problem);
}
