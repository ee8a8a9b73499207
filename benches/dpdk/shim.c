/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the bench `fib` asks of DPDK 22.11: a table of each kind, a timed pass over many keys, a
 * chain of lookups that depend on each other, and changes of routes.
 *
 * The loops over batches are here and not in Rust, so that DPDK is called as its users call it:
 * from C, with inline functions inlined and the sizes of the usual batches known to the compiler.
 */
#include <stdint.h>
#include <string.h>

#include <rte_common.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>

/* What a lookup of ours answers where no route covers the key. */
#define MISS UINT64_MAX
#define BATCH_MAX 256

enum kind { FIB4, FIB6, LPM4, LPM6 };

struct table {
	enum kind kind;
	union {
		struct rte_fib *fib4;
		struct rte_fib6 *fib6;
		struct rte_lpm *lpm4;
		struct rte_lpm6 *lpm6;
	} of;
};

int shim_socket(void);

/* Two-byte entries for IPv4. Those of rte_fib6 name at most 32,767 tbl8s, and the full table takes
 * 38,096 (one for each different beginning of 24, 32, 40, ... bits that a longer prefix has), and
 * more are reserved meanwhile: so four bytes.
 */
int shim_create(struct table *table, enum kind kind, const char *name, uint32_t routes,
		uint32_t tbl8s, uint32_t miss)
{
	struct rte_fib_conf fib4 = {
		.type = RTE_FIB_DIR24_8, .default_nh = miss, .max_routes = routes,
		.dir24_8 = {.nh_sz = RTE_FIB_DIR24_8_2B, .num_tbl8 = tbl8s},
	};
	struct rte_fib6_conf fib6 = {
		.type = RTE_FIB6_TRIE, .default_nh = miss, .max_routes = routes,
		.trie = {.nh_sz = RTE_FIB6_TRIE_4B, .num_tbl8 = tbl8s},
	};
	struct rte_lpm_config lpm4 = {.max_rules = routes, .number_tbl8s = tbl8s};
	struct rte_lpm6_config lpm6 = {.max_rules = routes, .number_tbl8s = tbl8s};

	table->kind = kind;
	switch (kind) {
	case FIB4:
		table->of.fib4 = rte_fib_create(name, shim_socket(), &fib4);
		break;
	case FIB6:
		table->of.fib6 = rte_fib6_create(name, shim_socket(), &fib6);
		break;
	case LPM4:
		table->of.lpm4 = rte_lpm_create(name, shim_socket(), &lpm4);
		break;
	case LPM6:
		table->of.lpm6 = rte_lpm6_create(name, shim_socket(), &lpm6);
		break;
	}
	return table->of.fib4 != NULL ? 0 : -1;
}

void shim_free(struct table *table)
{
	switch (table->kind) {
	case FIB4:
		rte_fib_free(table->of.fib4);
		break;
	case FIB6:
		rte_fib6_free(table->of.fib6);
		break;
	case LPM4:
		rte_lpm_free(table->of.lpm4);
		break;
	case LPM6:
		rte_lpm6_free(table->of.lpm6);
		break;
	}
}

/* Chooses the code that looks up: AVX-512 or the ordinary one. Not 0 where it cannot run here. */
int shim_select(struct table *table, int avx512)
{
	if (table->kind == FIB4)
		return rte_fib_select_lookup(table->of.fib4,
					     avx512 ? RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512
						    : RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO);
	if (table->kind == FIB6)
		return rte_fib6_select_lookup(table->of.fib6,
					      avx512 ? RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512
						     : RTE_FIB6_LOOKUP_TRIE_SCALAR);
	return avx512 ? -1 : 0;
}

/* key: a host-order uint32_t, or sixteen bytes in network order. */
int shim_add(struct table *table, const void *key, uint8_t depth, uint32_t hop)
{
	switch (table->kind) {
	case FIB4:
		return rte_fib_add(table->of.fib4, *(const uint32_t *)key, depth, hop);
	case FIB6:
		return rte_fib6_add(table->of.fib6, key, depth, hop);
	case LPM4:
		return rte_lpm_add(table->of.lpm4, *(const uint32_t *)key, depth, hop);
	case LPM6:
		return rte_lpm6_add(table->of.lpm6, key, depth, hop);
	}
	return -1;
}

int shim_delete(struct table *table, const void *key, uint8_t depth)
{
	switch (table->kind) {
	case FIB4:
		return rte_fib_delete(table->of.fib4, *(const uint32_t *)key, depth);
	case FIB6:
		return rte_fib6_delete(table->of.fib6, key, depth);
	case LPM4:
		return rte_lpm_delete(table->of.lpm4, *(const uint32_t *)key, depth);
	case LPM6:
		return rte_lpm6_delete(table->of.lpm6, key, depth);
	}
	return -1;
}

static inline uint64_t lpm4_answer(uint32_t entry)
{
	return entry & RTE_LPM_LOOKUP_SUCCESS ? entry & 0x00FFFFFF : MISS;
}

/* rte_lpm and rte_lpm6 answer in 32 bits, which are widened here. */
static __rte_always_inline void batch(const struct table *table, enum kind kind, void *keys,
				      uint64_t *out, unsigned int n)
{
	uint32_t entries[BATCH_MAX];
	int32_t hops[BATCH_MAX];
	unsigned int i;

	switch (kind) {
	case FIB4:
		rte_fib_lookup_bulk(table->of.fib4, keys, out, n);
		break;
	case FIB6:
		rte_fib6_lookup_bulk(table->of.fib6, keys, out, n);
		break;
	case LPM4:
		rte_lpm_lookup_bulk(table->of.lpm4, keys, entries, n);
		for (i = 0; i < n; i++)
			out[i] = lpm4_answer(entries[i]);
		break;
	case LPM6:
		rte_lpm6_lookup_bulk_func(table->of.lpm6, keys, hops, n);
		for (i = 0; i < n; i++)
			out[i] = (int64_t)hops[i];
		break;
	}
}

static __rte_always_inline void batches(const struct table *table, enum kind kind, char *keys,
					size_t count, unsigned int n, uint64_t *out, size_t room)
{
	const size_t size = kind == FIB4 || kind == LPM4 ? 4 : 16;
	size_t at = 0, done;

	for (done = 0; done < count; done += n) {
		if (at + n > room)
			at = 0;
		batch(table, kind, keys + done * size, out + at, n);
		at += n;
	}
}

static __rte_always_inline void kinds(const struct table *table, void *keys, size_t count,
				      unsigned int n, uint64_t *out, size_t room)
{
	switch (table->kind) {
	case FIB4:
		batches(table, FIB4, keys, count, n, out, room);
		break;
	case FIB6:
		batches(table, FIB6, keys, count, n, out, room);
		break;
	case LPM4:
		batches(table, LPM4, keys, count, n, out, room);
		break;
	case LPM6:
		batches(table, LPM6, keys, count, n, out, room);
		break;
	}
}

/* count: a multiple of n; room: at least n, at most BATCH_MAX at a time. */
int shim_pass(const struct table *table, void *keys, size_t count, unsigned int n, uint64_t *out,
	      size_t room)
{
	if (n == 0 || n > BATCH_MAX || room < n || count % n != 0)
		return -1;
	if (n == 32)
		kinds(table, keys, count, 32, out, room);
	else if (n == 256)
		kinds(table, keys, count, 256, out, room);
	else
		kinds(table, keys, count, n, out, room);
	return 0;
}

static inline uint64_t one(const struct table *table, void *key)
{
	uint64_t out = MISS;
	uint32_t hop = 0;

	switch (table->kind) {
	case FIB4:
		rte_fib_lookup_bulk(table->of.fib4, key, &out, 1);
		return out;
	case FIB6:
		rte_fib6_lookup_bulk(table->of.fib6, key, &out, 1);
		return out;
	case LPM4:
		return rte_lpm_lookup(table->of.lpm4, *(uint32_t *)key, &hop) == 0 ? hop : MISS;
	case LPM6:
		return rte_lpm6_lookup(table->of.lpm6, key, &hop) == 0 ? hop : MISS;
	}
	return out;
}

/* Each key waits for the answer before it, of which a zero that no compiler foresees goes into its
 * first byte. */
void shim_chain(const struct table *table, const void *keys, size_t count, uint64_t *out)
{
	const int v4 = table->kind == FIB4 || table->kind == LPM4;
	uint64_t last = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		uint32_t key[4];

		if (v4)
			key[0] = ((const uint32_t *)keys)[i];
		else
			memcpy(key, (const char *)keys + i * 16, 16);
		key[0] ^= (last + 1) >> 63;
		last = one(table, key);
		out[i] = last;
	}
}
