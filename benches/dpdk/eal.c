/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Starts DPDK's environment for the bench `fib`, and gives it memory in transparent huge pages, so
 * that none need be reserved.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <rte_common.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_version.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define HEAP "nearhop"

const char *shim_version(void)
{
	return rte_version();
}

const char *shim_error(void)
{
	return rte_strerror(rte_errno);
}

/* Where the tables are: memory of ours that DPDK uses as a heap. */
static struct {
	char *base;
	size_t length;
	int socket;
} arena;

static int start(int core)
{
	char cores[16];
	char *arguments[] = {
		"nearhop-benches", "-l", cores, "-m", "64", "--no-huge", "--no-pci", "--no-telemetry",
		"--no-shconf", "--no-hpet", "--force-max-simd-bitwidth=512", "--log-level=error", NULL,
	};

	snprintf(cores, sizeof(cores), "%d", core);
	return rte_eal_init(RTE_DIM(arguments) - 1, arguments);
}

/* DPDK's own memory without reserved huge pages is a file in memory that begins anywhere, which
 * the kernel cannot give huge pages. So the tables get memory that can be had in huge pages, by the
 * interface that DPDK has for memory of other origin.
 */
static int add_arena(size_t length)
{
	char *area = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED) {
		rte_errno = errno;
		return -1;
	}
	arena.base = RTE_PTR_ALIGN_CEIL(area, HUGE_PAGE);
	arena.length = length;
	/* Where the kernel has none to give, ordinary pages serve; shim_memory tells. */
	(void)madvise(arena.base, length, MADV_HUGEPAGE);
	if (rte_malloc_heap_create(HEAP) != 0 ||
	    rte_malloc_heap_memory_add(HEAP, arena.base, length, NULL, length / HUGE_PAGE,
				       HUGE_PAGE) != 0)
		return -1;
	arena.socket = rte_malloc_heap_get_socket(HEAP);
	return arena.socket < 0 ? -1 : 0;
}

/* Once in a process; binds the calling thread to the core. */
int shim_eal(int core, int mebibytes)
{
	if (start(core) < 0)
		return -1;
	return add_arena((size_t)mebibytes << 20);
}

/* The socket's number that stands for our memory. */
int shim_socket(void)
{
	return arena.socket;
}

/* The addresses between which the tables are. */
void shim_memory(uint64_t range[2])
{
	range[0] = (uintptr_t)arena.base;
	range[1] = (uintptr_t)arena.base + arena.length;
}

/* Bytes that were given out. */
uint64_t shim_allocated(void)
{
	struct rte_malloc_socket_stats stats;

	if (rte_malloc_get_socket_stats(arena.socket, &stats) != 0)
		return 0;
	return stats.heap_allocsz_bytes;
}
