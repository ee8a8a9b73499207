/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Starts DPDK's environment for the bench `fib`, and puts its memory into huge pages without any
 * having been reserved.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <rte_common.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_version.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* since Linux 6.1 */
#endif

#define HUGE_PAGE ((uintptr_t)2 << 20)

const char *shim_version(void)
{
	return rte_version();
}

const char *shim_error(void)
{
	return rte_strerror(rte_errno);
}

int shim_eal(int core, int mebibytes)
{
	char cores[16], memory[16];
	char *arguments[] = {
		"nearhop-benches", "-l", cores, "-m", memory, "--no-huge", "--no-pci", "--in-memory",
		"--no-telemetry", "--no-shconf", "--no-hpet", "--force-max-simd-bitwidth=512",
		"--log-level=error", NULL,
	};
	snprintf(cores, sizeof(cores), "%d", core);
	snprintf(memory, sizeof(memory), "%d", mebibytes);
	return rte_eal_init(RTE_DIM(arguments) - 1, arguments);
}

struct advice {
	int what;
	int refused;
};

/* Only whole huge pages are named: what is over at both ends stays in small ones. */
static int advise_list(const struct rte_memseg_list *list, void *argument)
{
	struct advice *advice = argument;
	uintptr_t first = RTE_ALIGN_CEIL((uintptr_t)list->base_va, HUGE_PAGE);
	uintptr_t last = RTE_ALIGN_FLOOR((uintptr_t)list->base_va + list->len, HUGE_PAGE);

	if (last > first && madvise((void *)first, last - first, advice->what) != 0)
		advice->refused++;
	return 0;
}

/* Transparent huge pages for all of DPDK's memory, before it is touched. */
int shim_huge_pages(void)
{
	struct advice advice = {.what = MADV_HUGEPAGE};

	rte_memseg_list_walk(advise_list, &advice);
	return advice.refused;
}

/* Asks the kernel to make huge pages now of what became small ones. */
int shim_collapse(void)
{
	struct advice advice = {.what = MADV_COLLAPSE};

	rte_memseg_list_walk(advise_list, &advice);
	return advice.refused;
}

struct range {
	uint64_t first, last;
};

static int widen_range(const struct rte_memseg_list *list, void *argument)
{
	struct range *range = argument;
	uint64_t first = (uintptr_t)list->base_va;

	range->first = RTE_MIN(range->first, first);
	range->last = RTE_MAX(range->last, first + list->len);
	return 0;
}

/* The addresses between which DPDK's memory is. */
void shim_memory(struct range *range)
{
	*range = (struct range){.first = UINT64_MAX};
	rte_memseg_list_walk(widen_range, range);
}

/* Bytes that DPDK's heaps have given out. */
uint64_t shim_allocated(void)
{
	struct rte_malloc_socket_stats stats;
	uint64_t sum = 0;
	int socket;

	for (socket = 0; socket < RTE_MAX_NUMA_NODES; socket++)
		if (rte_malloc_get_socket_stats(socket, &stats) == 0)
			sum += stats.heap_allocsz_bytes;
	return sum;
}
