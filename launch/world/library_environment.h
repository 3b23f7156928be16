// Settings that OpenMP and OpenBLAS read from the environment when they are loaded.
#pragma once

namespace unipool {

// Starts the program again, once, with the settings that the user has not made. `argv` is main's.
// - How threads of a rank wait for each other (OMP_WAIT_POLICY, GOMP_SPINCOUNT): they spin for some
//   50 microseconds and then sleep; if other processes use more than half of the cores now, they
//   sleep at once. OpenMP's default, spinning for milliseconds, makes a run many times slower
//   beside other processes.
// - OPENBLAS_NUM_THREADS=1: OpenBLAS would start a thread with 128 MiB of address space for each
//   core, which UniPool does not use.
// Returns if all are made, or after an error: the program works without them.
void SetLibraryEnvironment(char** argv);

// Number of processes and threads of the host that run or wait for a core, without the caller: the
// smallest of three readings within 2 ms. 0 if `file`, in the format of /proc/loadavg, is
// unreadable.
int RunningProcesses(const char* file = "/proc/loadavg");

}  // namespace unipool
