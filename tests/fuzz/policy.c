/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes come in as a compiled policy, with magic, sizes and sum made right; where the reader takes
 * it, calls are judged by it. Built into one program with the library's parts, whose stubs and
 * libvirt are not there.
 */
#include <stdlib.h>
#include <string.h>
#include "enforcer.h"

char enforcer_stubs[FUNCTIONS * STUB_BYTES];
const struct function functions[FUNCTIONS] = { FUNCTION_ROWS };
_Atomic(uint64_t) reals[FUNCTIONS];
struct inner inner;
atomic_bool objects_due, started;
bool is_daemon;

static const struct head *policy;
static struct held held;

/* what the judging parts need of the others */
void resolve(void) { }
bool has_libvirt(void) { return false; }
bool called_by_libvirt(struct call *call) { return false; }
void find_who(struct question *ask)
{
	ask->who_count = 2;
	ask->who[0] = (struct who){
		.uid = 0, .gid = 0, .pid = 0, .sasl = "user@EXAMPLE", .x509 = "CN=x"
	};
	ask->who[1] = (struct who){ .uid = 1, .gid = 1, .pid = 1 };
}
void find_user(struct who *who) { }
void forget_who(struct question *ask) { }
const char *find_exe(struct question *ask, struct who *who) { return "/usr/bin/virsh"; }
void alert(const char *what, const char *path) { }
void say_verdict(struct question *ask, enum verdict_action action, const char *rule,
		 const char *message)
{
	if (rule && (strlen(rule) > 1 << 20 || strlen(message) > 1 << 20))
		abort();
}
void deny(struct question *ask, void *connection, const char *rule, const char *message) { }

struct held *__wrap_take_policy(unsigned which);
struct held *__wrap_take_policy(unsigned which)
{
	held.head = policy;
	return which ? NULL : &held;
}
void __wrap_drop_policy(struct held *held);
void __wrap_drop_policy(struct held *held) { }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t hash[32] = TABLE_HASH;
	static const char xml[] =
		"<domain><name>web1</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>"
		"</domain>";
	const char *problem;
	struct head *head;

	if (size < sizeof(*head) || size > 1 << 20)
		return 0;
	head = aligned_alloc(16, (size + 15) & ~15UL);
	memcpy(head, data, size);
	memcpy(head->magic, MAGIC, 8);
	memcpy(head->table_hash, hash, 32);
	head->size = size;
	head->rows = FUNCTIONS;
	((char *)head)[size - 1] = 0;
	head->check = crc32_of((uint8_t *)head + 16, size - 16);
	if (check_policy(head, size, &problem)) {
		struct row *rows = (struct row *)((char *)head + head->rows_at);

		struct condition *conditions =
			(struct condition *)((char *)head + head->conditions_at);

		policy = head;
		/*
		 * where a policy says that typed parameters are, a function has them; here there
		 * are none
		 */
		for (unsigned i = 0; i < head->conditions; i++)
			conditions[i].argument &= ~IN_PARAMS;
		for (unsigned i = 0; i < FUNCTIONS; i++)
			for (unsigned j = 0; j < rows[i].source_count; j++) {
				struct source *source =
					(struct source *)((char *)head + rows[i].sources) + j;

				source->kind = source->kind == BY_PARAMS ? BY_UNKNOWN
									 : source->kind;
			}
		for (unsigned i = 0; i < FUNCTIONS; i++) {
			struct {
				struct call call;
				uint64_t stack[12];
			} made = { .call.number = i };

			/* every argument is a string, a document, and no handle */
			for (unsigned j = 0; j < 6; j++)
				made.call.args[j] = (uint64_t)xml;
			for (unsigned j = 0; j < 12; j++)
				made.stack[j] = (uint64_t)xml;
			judge(&made.call);
		}
	}
	free(head);
	return 0;
}
