#!/usr/bin/env python3
"""Limits of the host on memory, cores and threads: a run within them trains, and a run that cannot
work in them ends in one line with status 2. No run hangs."""
import os
import pathlib
import re
import resource
import signal
import unittest

import command_support as support
import process_support as processes

MIB = 1 << 20


class AddressSpaceTest(support.TextTest):
    def run_within(self, kind, limit_bytes, ranks=0):
        """A run of two threads a rank under a limit; returns its status and standard error."""
        run_dir = os.path.join(self.folder.name, f"run-{kind}-{limit_bytes}-{ranks}")
        command = support.train_command(self.prefix, run_dir, {"parallel.threads": 2})
        before = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit_bytes, before[1]))
        try:
            done = support.run(command, ranks=ranks, timeout=60)
        finally:
            resource.setrlimit(kind, before)
        return done.returncode, done.stderr

    def test_a_limit_above_the_memory_of_the_host_does_not_stop_a_run(self):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
        for more in (200, 300, 400):
            with self.subTest(more=more):
                status, errors = self.run_within(resource.RLIMIT_AS, memory + more * MIB)
                self.assertEqual(status, 0, errors)

    def test_a_small_limit_is_enough_or_ends_in_one_line(self):
        statuses = []
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            for limit in (100, 150, 200, 300, 400, 600, 800, 1000, 2000, 4000):
                with self.subTest(kind=kind, limit=limit):
                    status, errors = self.run_within(kind, limit * MIB)
                    statuses.append(status)
                    self.assertIn(status, (0, 2), errors)
                    self.assertEqual(errors.count("\n"), 0 if status == 0 else 1, errors)
                    if status == 2:
                        self.assertRegex(errors, r"needs \d+ MiB of address space .* its limit on "
                                                 r".* \(ulimit -[vd]\), \d+ MiB, leaves \d+ MiB; ")
        self.assertIn(0, statuses)
        self.assertIn(2, statuses)

    def test_ranks_refuse_a_limit_together(self):
        status, errors = self.run_within(resource.RLIMIT_DATA, 400 * MIB, ranks=2)
        self.assertEqual(status, 2, errors)
        self.assertEqual(len(re.findall("MiB of address space", errors)), 1, errors)


class ThreadsTest(support.TextTest):
    def environment(self, **chosen):
        """What the OpenMP and BLAS libraries of a run read from its environment."""
        run_dir = os.path.join(self.folder.name, "run-" + "-".join(chosen))
        job = processes.Job(support.train_command(self.prefix, run_dir, processes.LONG),
                            environment=chosen)
        self.addCleanup(job.kill)
        processes.wait_for(lambda: processes.last_step(run_dir) >= 1, 60, "step 1")
        found = processes.environment_of(job.process.pid)
        job.signal(signal.SIGTERM)
        job.finish()
        return found

    def test_threads_spin_for_a_bounded_time(self):
        found = self.environment()
        # Other tests may run at the same time.
        self.assertIn((found.get("OMP_WAIT_POLICY"), found.get("GOMP_SPINCOUNT")),
                      (("passive", None), (None, "1000")))
        self.assertEqual(found["OPENBLAS_NUM_THREADS"], "1")

    def test_threads_sleep_while_they_wait_beside_busy_processes(self):
        for _ in range(os.cpu_count()):
            busy = processes.subprocess.Popen(["sh", "-c", "while :; do :; done"])
            self.addCleanup(busy.wait)
            self.addCleanup(busy.kill)
        found = self.environment(OMP_NUM_THREADS="2")
        self.assertEqual(found["OMP_WAIT_POLICY"], "passive")
        self.assertNotIn("GOMP_SPINCOUNT", found)

    def test_the_user_may_choose_to_spin(self):
        self.assertEqual(self.environment(OMP_WAIT_POLICY="active")["OMP_WAIT_POLICY"], "active")
        found = self.environment(GOMP_SPINCOUNT="100")
        self.assertNotIn("OMP_WAIT_POLICY", found)
        self.assertEqual(found["GOMP_SPINCOUNT"], "100")


class CgroupTest(support.TextTest):
    """A run in a control group of version 1 that this test makes."""

    def make_group(self, controller, settings):
        group = pathlib.Path(f"/sys/fs/cgroup/{controller}/unipool_test_{os.getpid()}")
        try:
            group.mkdir()
            self.addCleanup(group.rmdir)
            for name, value in settings.items():
                (group / name).write_text(str(value))
        except OSError as error:
            self.skipTest(f"cannot make a control group of version 1: {error}")
        return group

    def run_in(self, group, settings):
        command = support.train_command(self.prefix, os.path.join(self.folder.name, "run"),
                                        settings)
        home = group.parent
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            return support.run(command)
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))

    def test_a_model_larger_than_the_memory_of_the_group_is_refused(self):
        group = self.make_group("memory", {"memory.limit_in_bytes": 400 * MIB})
        done = self.run_in(group, {"model.hidden": 1024, "model.ffn": 4096})
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(f"400 MiB for 1 of the ranks (limit of the cgroup {group})", done.stderr)

    def test_default_threads_follow_the_quota(self):
        group = self.make_group("cpu", {"cpu.cfs_period_us": 100000, "cpu.cfs_quota_us": 100000})
        done = self.run_in(group, {})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("computes on CPU, float32, 1 thread per rank", done.stdout)


if __name__ == "__main__":
    unittest.main()
