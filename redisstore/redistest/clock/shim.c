// A clock that a test steps, for a program that was not asked: preloaded, it adds
// an offset to what clock_gettime(CLOCK_REALTIME), gettimeofday and time return.
// CLOCK_MONOTONIC, and everything that counts from it, is left alone, as by a
// real step of the clock.
//
// The offset, nanoseconds as an int64 of this machine, is the whole content of
// the file that REDISTEST_CLOCK names, and is mapped: who writes it there steps
// the clock at once, children of fork included.
//
// The real time comes by system calls. Looking up the functions that these hide
// (dlsym) may allocate, and the allocator of redis-server asks for the time when
// it wakes up: there libfaketime hangs.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t none;
static const int64_t *offset = &none;

__attribute__((constructor)) static void map_offset(void) {
	const char *path = getenv("REDISTEST_CLOCK");
	if (path == NULL)
		return;
	void *page = MAP_FAILED;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED) {
		perror(path);
		_exit(1);
	}
	close(fd);
	offset = page;
}

static int now(clockid_t clock, struct timespec *ts) {
	if (syscall(SYS_clock_gettime, clock, ts) != 0)
		return -1;
	if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
		return 0;
	int64_t step = __atomic_load_n(offset, __ATOMIC_RELAXED);
	int64_t ns = ts->tv_nsec + step % 1000000000;
	ts->tv_sec += step / 1000000000;
	if (ns < 0) {
		ns += 1000000000;
		ts->tv_sec--;
	} else if (ns >= 1000000000) {
		ns -= 1000000000;
		ts->tv_sec++;
	}
	ts->tv_nsec = ns;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *ts) { return now(clock, ts); }

int gettimeofday(struct timeval *tv, void *zone) {
	struct timespec ts;
	(void)zone; // obsolete, and NULL
	if (now(CLOCK_REALTIME, &ts) != 0)
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t) {
	struct timespec ts;
	if (now(CLOCK_REALTIME, &ts) != 0)
		return (time_t)-1;
	if (t != NULL)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
