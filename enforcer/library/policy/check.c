/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checks a compiled policy: its bytes come in, whoever wrote them; yes, or what is wrong with them,
 * goes out. Behind it everything in a policy is where it says, and may be followed without care.
 */
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include "enforcer.h"

static const uint8_t table_hash[32] = TABLE_HASH;

/* Eight bytes at a time. */
static uint32_t add_to_crc(uint32_t sum, const uint8_t *data, size_t size)
{
	static const uint32_t tables[8][256] = CRC32_TABLES;

	for (; size >= 8; size -= 8, data += 8) {
		uint32_t low, high;

		memcpy(&low, data, 4);
		memcpy(&high, data + 4, 4);
		low ^= sum;
		sum = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^
		      tables[5][low >> 16 & 0xff] ^ tables[4][low >> 24] ^ tables[3][high & 0xff] ^
		      tables[2][high >> 8 & 0xff] ^ tables[1][high >> 16 & 0xff] ^
		      tables[0][high >> 24];
	}
	while (size--)
		sum = tables[0][(uint8_t)(sum ^ *data++)] ^ sum >> 8;
	return sum;
}

#ifdef __x86_64__
#define BLOCK 16u

/*
 * Sixteen bytes at a time, by a multiplication without carries: what a block's halves come to 128
 * bits further on is added to the block there. The sum is that of the last block then. The factors
 * are the remainders of x^(128 + 32) and x^(128 - 32), with bits in the order that CRC-32 has them.
 */
__attribute__((target("pclmul")))
static uint32_t fold_to_crc(uint32_t sum, const uint8_t *data, size_t blocks)
{
	const __m128i factors = _mm_set_epi64x(0xccaa009e, 0x1751997d0);
	const __m128i *next = (const __m128i *)data;
	__m128i block = _mm_xor_si128(_mm_loadu_si128(next), _mm_cvtsi32_si128(sum));
	uint8_t last[BLOCK];

	while (--blocks) {
		__m128i low = _mm_clmulepi64_si128(block, factors, 0x00);
		__m128i high = _mm_clmulepi64_si128(block, factors, 0x11);

		block = _mm_xor_si128(_mm_xor_si128(low, high), _mm_loadu_si128(++next));
	}
	_mm_storeu_si128((__m128i *)last, block);
	return add_to_crc(0, last, BLOCK);
}
#endif

/* A call waits for it. */
uint32_t crc32_of(const uint8_t *data, size_t size)
{
	uint32_t sum = ~0u;

#ifdef __x86_64__
	if (size >= BLOCK && __builtin_cpu_supports("pclmul")) {
		sum = fold_to_crc(sum, data, size / BLOCK);
		data += size / BLOCK * BLOCK;
		size %= BLOCK;
	}
#endif
	return ~add_to_crc(sum, data, size);
}

/* Whether so many things of that size are inside of the policy. */
static bool fits(const struct head *head, uint32_t offset, uint64_t count, uint32_t size)
{
	uint32_t alignment = size % 8 == 0 ? 8 : size % 4 == 0 ? 4 : 1;

	return offset >= sizeof(*head) && offset % alignment == 0 && offset <= head->size &&
	       count * size <= head->size - offset;
}

static bool is_string(const struct head *head, uint32_t offset)
{
	return offset >= sizeof(*head) && offset < head->size;	/* the last byte is NUL */
}

static bool check_items(const struct head *head, const struct condition *c)
{
	uint64_t count = (uint64_t)c->yes + c->no;
	const uint32_t *items = at(head, c->items);

	switch (c->kind) {
	case IS_OBJECT:
	case IS_URI:
	case IS_EXE:
	case CONTAINS:
	case CONTAINS_XML:
	case HAS_ELEMENT:
		if (!fits(head, c->items, count, 4))
			return false;
		for (uint64_t i = 0; i < count; i++)
			if (!is_string(head, items[i]))
				return false;
		return true;
	case IS_UUID:
		return fits(head, c->items, count, 16);
	case IS_USER:
		if (!fits(head, c->items, count, 8))
			return false;
		for (uint64_t i = 0; i < count; i++) {
			const struct principal *p = (const struct principal *)items + i;

			if (p->kind > X509 || (p->kind >= SASL && !is_string(head, p->value)))
				return false;
		}
		return true;
	}
	return c->kind && c->kind < CONDITION_KINDS;
}

static bool check_list(const struct head *head, uint32_t offset, uint32_t count)
{
	const uint32_t *numbers = at(head, offset);

	if (!fits(head, offset, count, 4))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (numbers[i] >= head->rules)
			return false;
	return true;
}

static bool check_program(const struct head *head, uint32_t offset)
{
	const struct program *p = at(head, offset);
	const struct bucket *table;

	if (!fits(head, offset, 1, sizeof(*p)))
		return false;
	if (p->table_bits > 20 || !fits(head, p->table, 1ULL << p->table_bits, sizeof(*table)))
		return false;
	if (!check_list(head, p->all, p->all_count) ||
	    !check_list(head, p->general, p->general_count))
		return false;
	table = at(head, p->table);
	for (uint32_t i = 0; i < 1u << p->table_bits; i++)
		if (table[i].used && !check_list(head, table[i].rules, table[i].count))
			return false;
	return true;
}

bool check_head(const struct head *head, size_t size, const char **problem)
{
	*problem = "it is no compiled policy";
	if (memcmp(head->magic, MAGIC, 8))
		return false;
	*problem = "it was compiled by another version of libvirt-trace";
	if (head->rows != FUNCTIONS || memcmp(head->table_hash, table_hash, 32))
		return false;
	*problem = "it is damaged";
	return head->size == size;
}

bool check_policy(const void *data, size_t size, const char **problem)
{
	const struct head *head = data;
	const struct condition *conditions;
	const struct rule *rules;
	const struct row *rows;
	uint32_t checked[64] = { 0 };	/* programs, by their places: many functions share one */

	*problem = "it is no compiled policy";
	if (size < sizeof(*head) || !check_head(head, size, problem) ||
	    ((const char *)data)[size - 1])
		return false;
	if (head->check != crc32_of((const uint8_t *)data + 16, size - 16))
		return false;
	if (!is_string(head, head->origin) ||
	    !fits(head, head->rows_at, head->rows, sizeof(*rows)) ||
	    !fits(head, head->rules_at, head->rules, sizeof(*rules)) ||
	    !fits(head, head->conditions_at, head->conditions, sizeof(*conditions)))
		return false;
	rows = at(head, head->rows_at);
	rules = at(head, head->rules_at);
	conditions = at(head, head->conditions_at);
	for (uint32_t i = 0; i < head->conditions; i++)
		if (!check_items(head, &conditions[i]) ||
		    (conditions[i].argument & ~IN_PARAMS) >= 15)
			return false;
	for (uint32_t i = 0; i < head->rules; i++)
		if (!is_string(head, rules[i].name) || !is_string(head, rules[i].message) ||
		    rules[i].action > DENY || rules[i].action < ALLOW ||
		    (uint64_t)rules[i].first + rules[i].count > head->conditions)
			return false;
	for (uint32_t i = 0; i < head->rows; i++) {
		const struct source *sources = at(head, rows[i].sources);

		if (!fits(head, rows[i].sources, rows[i].source_count, sizeof(*sources)) ||
		    rows[i].source_count > 16)
			return false;
		for (uint32_t j = 0; j < rows[i].source_count; j++)
			if (sources[j].kind < BY_HANDLE || sources[j].kind >= SOURCE_KINDS ||
			    sources[j].argument >= 16 || sources[j].type >= OBJECT_TYPES ||
			    sources[j].second >= 16)
				return false;
		if (!rows[i].program || rows[i].program == checked[rows[i].program / 8 % 64])
			continue;
		if (functions[i].plumbing || !check_program(head, rows[i].program))
			return false;
		checked[rows[i].program / 8 % 64] = rows[i].program;
	}
	return true;
}
