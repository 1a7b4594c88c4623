/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Judges a call: the policies in force come in; the real function's address goes out, 0 for a
 * denied call.
 *
 * The first rule that matches decides. What can't be told (a name, a client's program) is settled
 * against the caller: a rule that denies matches then, others don't. Of several objects in a call
 * one is enough for a rule that denies or audits; a rule that allows wants all of them.
 */
#include <errno.h>
#include <string.h>
#include "enforcer.h"

static bool rule_matches(struct question *ask, const struct rule *rule)
{
	const struct condition *c =
		(const struct condition *)at(ask->head, ask->head->conditions_at) + rule->first;
	enum certainty result = YES;

	for (uint32_t i = 0; i < rule->count; i++, c++) {
		enum certainty one = holds(ask, c, rule->action == ALLOW);

		if (one == NO)
			return false;
		if (one == UNKNOWN)
			result = UNKNOWN;
	}
	return result == YES || rule->action == DENY;
}

/* The first rule of the list that matches and comes before `best`. */
static uint32_t first_match(struct question *ask, uint32_t list, uint32_t count, uint32_t best)
{
	const struct rule *rules = at(ask->head, ask->head->rules_at);
	const uint32_t *numbers = at(ask->head, list);

	for (uint32_t i = 0; i < count && numbers[i] < best; i++)
		if (rule_matches(ask, &rules[numbers[i]]))
			return numbers[i];
	return best;
}

/*
 * Rules whose names all begin with a prefix are looked for by the object's name; a thousand of them
 * cost what one does.
 */
static uint32_t match_by_prefix(struct question *ask, const struct program *p, const char *name,
				size_t length, uint32_t best)
{
	const struct bucket *table = at(ask->head, p->table);
	uint32_t hash = 0x811c9dc5, mask = (1u << p->table_bits) - 1;

	for (size_t i = 0; i < length && i < PREFIX_MAX && p->lengths >> i; i++) {
		hash = (hash ^ (uint8_t)name[i]) * 0x01000193;
		if (!(p->lengths >> i & 1))
			continue;
		for (uint32_t slot = hash & mask, tries = 0; table[slot].used && tries <= mask;
		     slot = (slot + 1) & mask, tries++)
			if (table[slot].hash == hash)
				best = first_match(ask, table[slot].rules, table[slot].count, best);
	}
	return best;
}

/* The rule that decides; NULL: none matches. */
static const struct rule *deciding_rule(struct question *ask)
{
	const struct program *p = at(ask->head, ask->row->program);
	uint32_t best;

	best = first_match(ask, p->general, p->general_count, UINT32_MAX);
	if (p->lengths) {
		bool by_name = true;

		find_objects(ask);
		for (unsigned i = 0; i < ask->object_count; i++)
			by_name &= ask->objects[i].has_name != UNKNOWN;
		if (!by_name || ask->is_uncertain_list) {
			best = first_match(ask, p->all, p->all_count, best);
		} else {
			for (unsigned i = 0; i < ask->object_count; i++)
				if (ask->objects[i].has_name == YES)
					best = match_by_prefix(ask, p, ask->objects[i].name,
							       ask->objects[i].length, best);
		}
	}
	if (best == UINT32_MAX)
		return NULL;
	return (const struct rule *)at(ask->head, ask->head->rules_at) + best;
}

/* Tells the tracer, with the call at hand, that a policy can't be read. */
void tell_problem(struct call *call)
{
	struct question ask = { .call = call };

	if (functions[call->number].plumbing || !atomic_exchange(&problem_due, false))
		return;
	describe_problem(ask.note, sizeof(ask.note));
	if (ask.note[0])
		say_verdict(&ask, SAYS_AUDIT, "on_error", NULL);
}

/*
 * What the policies say: the strictest word that one of them has for one of those for whom the call
 * is made.
 */
struct decision {
	enum verdict_action says;
	const char *rule, *message;
	bool judged;		/* some policy has rules for the function, or is_partial */
	bool is_partial;	/* a policy that should be there is not */
	_Atomic(uint64_t) *count;	/* of the rule's calls; NULL */
};

static void decide(struct question *ask, struct held *held, struct decision *so_far)
{
	const struct rule *found = deciding_rule(ask);
	const struct rule *rules = at(ask->head, ask->head->rules_at);

	so_far->judged = true;
	if (!found)
		return;
	if (found->action == DENY && !(ask->head->flags & HEAD_AUDIT))
		so_far->says = SAYS_DENY;
	else if (found->action != ALLOW)
		so_far->says = SAYS_AUDIT;
	else if (so_far->rule)
		return;		/* what another one audits stays audited */
	so_far->rule = at(ask->head, found->name);
	so_far->message = at(ask->head, found->message);
	so_far->count = held->counts ? held->counts->count + (found - rules) : NULL;
}

static void ask_policy(struct question *ask, unsigned which, struct held *held,
		       struct decision *so_far)
{
	if (!held) {
		if (denies_without_policy(which))
			*so_far = (struct decision){ SAYS_DENY, "on_error",
						     "the policy can't be read", true, false,
						     NULL };
		else if (lacks_policy(which))
			so_far->judged = so_far->is_partial = true;
		return;
	}
	ask->head = held->head;
	ask->row = row_of(ask->head, ask->call->number);
	if (!ask->row->program)
		return;
	/* the other policy may have looked for them elsewhere: it may have no rules by UUID */
	forget_objects(ask);
	if (is_refused(ask)) {
		so_far->judged = true;
		return;
	}
	for (ask->turn = 0; ask->turn < ask->who_count && so_far->says != SAYS_DENY; ask->turn++) {
		unsigned next = next_handle(ask, 0);

		do {
			decide(ask, held, so_far);
		} while (next && so_far->says != SAYS_DENY && (next = next_handle(ask, next)));
	}
}

uint64_t judge(struct call *call)
{
	struct decision decision = { .says = SAYS_ALLOW };
	struct held *held[POLICIES] = { NULL };
	int saved = errno;
	struct question ask;
	void *conn = NULL;

	if (called_by_libvirt(call)) {
		errno = saved;
		return real_of(call->number);
	}
	ask.call = call;
	ask.head = NULL;
	ask.object_count = ask.turn = 0;
	ask.have_objects = ask.have_uri = ask.looking = ask.is_uncertain_list = false;
	ask.exe[0] = ask.uri[0] = ask.bare_uri[0] = ask.note[0] = 0;
	find_who(&ask);
	if (!ask.who_count) {
		/* nobody is asked, but the log must not take it for a call past us */
		call->result = 0;
		say_verdict(&ask, SAYS_ALLOW, NULL, NULL);
		errno = saved;
		return real_of(call->number);
	}
	for (unsigned which = 0; which < POLICIES && decision.says != SAYS_DENY; which++) {
		held[which] = take_policy(which);
		ask_policy(&ask, which, held[which], &decision);
	}
	if (decision.is_partial) {
		describe_problem(ask.note, sizeof(ask.note));
		if (decision.says == SAYS_ALLOW) {
			decision.says = SAYS_AUDIT;
			decision.rule = decision.message = NULL;
			decision.count = NULL;
		}
	}
	if (decision.count)
		atomic_fetch_add_explicit(decision.count, 1, memory_order_relaxed);
	if (decision.judged) {
		if (decision.says == SAYS_DENY && ask.head)
			conn = connection_of(&ask);
		call->result = (int64_t)functions[call->number].failure;
		say_verdict(&ask, decision.says, decision.rule, decision.message);
		forget_objects(&ask);
		if (decision.says == SAYS_DENY)
			deny(&ask, conn, decision.rule, decision.message);
	}
	forget_who(&ask);
	for (unsigned which = 0; which < POLICIES; which++)
		if (held[which])
			drop_policy(held[which]);
	errno = saved;
	return decision.says == SAYS_DENY ? 0 : real_of(call->number);
}
