#!/usr/bin/env python3
"""When a rank is lost or hangs, the others report which one, in which operation of which step, and
end soon; the launcher restarts the job if that can help."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import command_support as support
import process_support as processes

LOST_PEER, HANG = 76, 77


class FaultsTest(support.TextTest):
    def start(self, name, ranks, settings=None, prefix=None):
        run_dir = os.path.join(self.folder.name, name)
        merged = {**processes.LONG, **(settings or {})}
        job = processes.Job(support.train_command(prefix or self.prefix, run_dir, merged), ranks)
        self.addCleanup(job.process.stdout.close)
        self.addCleanup(job.process.stderr.close)
        self.addCleanup(job.kill)
        processes.wait_for(lambda: processes.last_step(run_dir) >= 2, 60, "step 2")
        return job, run_dir

    def test_a_killed_rank_is_named_with_the_operation_and_the_step(self):
        for victim in (0, 2):
            with self.subTest(victim=victim):
                job, _ = self.start(f"killed-{victim}", 3)
                begin = time.monotonic()
                job.signal_rank(victim, signal.SIGKILL)
                status, output, errors = job.finish(30)
                self.assertEqual(status, LOST_PEER, output + errors)
                self.assertLess(time.monotonic() - begin, 15)
                self.assertRegex(errors, rf"mpirun.sh: rank {victim} on host \S+ was ended by "
                                         r"signal 9 \(Killed\)\n")
                self.assertRegex(errors, rf"has waited [0-9.]+ s for rank .*{victim}.* in \w+ "
                                         r"#\d+ of group '\w+' \(step \d+, ")
                self.assertNotIn("----", errors)

    def test_data_that_are_truncated_during_a_run_are_named(self):
        cut = str(support.write_text(tempfile.mkdtemp(dir=self.folder.name)))
        job, _ = self.start("cut-data", 2, prefix=cut)
        os.truncate(cut + ".bin", 0)
        status, output, errors = job.finish(30)
        self.assertEqual(status, 1, output + errors)
        self.assertRegex(errors, rf"unipool: {cut}.bin: cannot read byte \d+: the file was "
                                 "truncated, or its disk failed")

    def test_a_stopped_rank_is_a_hang_that_names_it(self):
        job, run_dir = self.start("stopped", 3, {"parallel.deadline_seconds": 3})
        begin = time.monotonic()
        job.signal_rank(1, signal.SIGSTOP)
        status, output, errors = job.finish(40)
        self.assertEqual(status, HANG, output + errors)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertEqual(errors.count("no progress for 3s"), 1, errors)
        self.assertRegex(errors, r"rank 1 on \S+ does not respond")
        for rank in (0, 2):
            self.assertRegex(errors, rf"rank {rank} on \S+ has waited [0-9.]+ s for rank "
                                     r"[0-2, ]+ in \w+ #\d+ of group '\w+' \(step \d+, ")
        logs = [path.read_text() for path in pathlib.Path(run_dir, "log").iterdir()]
        for rank in (0, 2):
            self.assertTrue(any(f"the last calls of rank {rank}:" in log for log in logs))

    def test_a_single_process_that_stops_working_is_a_hang(self):
        job, _ = self.start("alone", 0, {"parallel.deadline_seconds": 3, "data.global_batch": 64})
        begin = time.monotonic()
        try:
            processes.stop_thread(job.process.pid)  # the one that trains
        except OSError as error:
            self.skipTest(f"this machine lets no thread be stopped: {error}")
        status, output, errors = job.finish(40)
        self.assertEqual(status, HANG, output + errors)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertRegex(errors, r"no progress for 3s .*:\n  rank 0 on \S+ waits for no "
                                 r"rank: step \d+, (forward|backward|update|reading|"
                                 r"gradients|losses).* for [3-9]")

    def test_a_restart_resumes_what_its_first_start_replaced(self):
        run_dir = os.path.join(self.folder.name, "forced")
        command = support.train_command(self.prefix, run_dir, {"steps": 4}) + ["--force"]
        for restart in ("0", "1"):
            done = support.run(command, environment={"UNIPOOL_RESTART": restart})
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("before", done.stdout)  # all steps were trained
        done = support.run(command, environment={"UNIPOOL_RESTART": "0"})
        self.assertIn("before", done.stdout)


class RestartsTest(unittest.TestCase):
    """The launcher alone: the ranks are shell scripts."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.count = pathlib.Path(self.folder.name, "count")

    def launch(self, script, *options, environment=None):
        """Rank 0 writes down each start and the number of ranks; then all run the script."""
        counted = (f'[ "$OMPI_COMM_WORLD_RANK" != 0 ] || echo "$OMPI_COMM_WORLD_SIZE '
                 f'$UNIPOOL_RESTART" >> {self.count}; {script}')
        done = subprocess.run([support.LAUNCHER, *options, "sh", "-c", counted], timeout=90,
                              capture_output=True, text=True, check=False,
                              env=dict(os.environ, **(environment or {})))
        return done, self.count.read_text().splitlines() if self.count.exists() else []

    def test_a_lost_rank_causes_a_restart(self):
        script = 'sleep 0.3; [ "$UNIPOOL_RESTART" = 2 ] || kill -KILL $$'
        done, starts = self.launch(script, "--restarts", "3", "-np", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(starts, ["2 0", "2 1", "2 2"])
        self.assertIn("restarting in 1 s with 2 ranks (2 of 3 restarts used)", done.stderr)

    def test_there_are_at_most_as_many_restarts_as_requested(self):
        done, starts = self.launch("sleep 0.3; kill -SEGV $$", "--restarts=1", "-np", "2")
        self.assertEqual(done.returncode, 139, done.stderr)
        self.assertEqual(starts, ["2 0", "2 1"])
        self.assertIn("exiting with status 139 (1 of 1 restarts used)", done.stderr)

    def test_a_failure_that_would_repeat_causes_no_restart(self):
        for status in (0, 2, 3, 75):
            with self.subTest(status=status):
                self.count.unlink(missing_ok=True)
                done, starts = self.launch(f"exit {status}", "--restarts", "2", "-np", "1")
                self.assertEqual(done.returncode, status)
                self.assertEqual(len(starts), 1)

    def test_a_crash_and_a_hang_cause_a_restart(self):
        for status in (1, 77, 134):
            with self.subTest(status=status):
                self.count.unlink(missing_ok=True)
                _, starts = self.launch(f"exit {status}", "--restarts", "1", "-np", "1")
                self.assertEqual(len(starts), 2)

    def test_a_host_that_cannot_be_reached_is_left_out(self):
        agent = pathlib.Path(self.folder.name, "agent")
        agent.write_text("#!/bin/sh\nexit 255\n")
        agent.chmod(0o755)
        hosts = pathlib.Path(self.folder.name, "hosts")
        hosts.write_text("# two\nlocalhost slots=2\n192.0.2.1 slots=2\n")
        for place in (["--host", "localhost:2,192.0.2.1:2"], ["--hostfile", str(hosts)]):
            with self.subTest(place=place):
                self.count.unlink(missing_ok=True)
                done, starts = self.launch("exit 0", "--restarts", "1", "-np", "4", *place,
                                           environment={"OMPI_MCA_plm_rsh_agent": str(agent)})
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("host 192.0.2.1 cannot be reached", done.stderr)
                self.assertEqual(starts, ["2 1"])

    def output_for(self, paragraph, status):
        """(exit status, standard error) of the launcher when mpirun prints this and exits so."""
        bin_folder = pathlib.Path(self.folder.name, "bin")
        bin_folder.mkdir(exist_ok=True)
        ruler = "-" * 74
        (bin_folder / "paragraph").write_text(f"before\n{ruler}\n{paragraph}\n{ruler}\nafter\n")
        mpirun = bin_folder / "mpirun"
        mpirun.write_text(f"#!/bin/sh\ncat {bin_folder}/paragraph >&2\nexit {status}\n")
        mpirun.chmod(0o755)
        done, _ = self.launch("", environment={"PATH": f"{bin_folder}:{os.environ['PATH']}"})
        return done.returncode, done.stderr.splitlines()

    def test_mpiruns_report_of_a_lost_host_becomes_one_line(self):
        status, lines = self.output_for(
            "ORTE has lost communication with a remote daemon.\n\n"
            "  HNP daemon   : [[1,0],0] on node h1\n"
            "  Remote daemon: [[1,0],2] on node h3\n\nThis is usually", 205)
        self.assertEqual(status, LOST_PEER)
        self.assertEqual(lines, ["before", "mpirun.sh: lost the connection to host h3", "after",
                                 "mpirun.sh: a rank or its host was lost (mpirun's exit status "
                                 "is 205); exiting with status 76 (--restarts N restarts the "
                                 "job)"])

    def test_mpiruns_report_of_a_status_is_not_repeated(self):
        status, lines = self.output_for(
            "mpirun detected that one or more processes exited with non-zero "
            "status, thus causing\nthe job to be terminated.", 75)
        self.assertEqual((status, lines), (75, ["before", "after"]))

    def test_other_paragraphs_are_unchanged(self):
        status, lines = self.output_for("mpirun was unable to find\nthe program", 134)
        self.assertEqual(status, 134)
        self.assertEqual(lines, ["before", "-" * 74, "mpirun was unable to find", "the program",
                                 "-" * 74, "after"])

    def test_help_lists_the_options_of_the_launcher_first(self):
        for option in ("--help", "-h"):
            done = subprocess.run([support.LAUNCHER, option], timeout=90, capture_output=True,
                                  text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertTrue(done.stdout.startswith("usage: mpirun.sh [--restarts N]"))
            own, _, theirs = done.stdout.partition("mpirun (Open MPI)")
            for part in ("--hostfile FILE", "SIGTERM", "Exit statuses", "OMPI_MCA_btl"):
                self.assertIn(part, own)
            self.assertIn("Usage: mpirun", theirs)

    def test_a_bad_number_of_restarts_is_bad_input(self):
        done, _ = self.launch("exit 0", "--restarts", "often", "-np", "1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--restarts is 'often'; give a whole number", done.stderr)

    def test_a_program_that_cannot_start_is_bad_input_and_not_retried(self):
        nowhere = os.path.join(self.folder.name, "nowhere")
        for options, message in (
                (["-np", "2", nowhere], f"cannot start {nowhere} on host "),
                (["-np", "2", "no-such-program"], "cannot start no-such-program on host "),
                (["-np", "2", "/etc/passwd"], "cannot start /etc/passwd on host "),
                (["-np", "2"], "no program is given"),
                (["-np", "abc", "true"], "-np is 'abc'; give a whole number of at least 1"),
                (["-np", "0", "true"], "-np is '0'; give a whole number of at least 1"),
                (["-np", "2", "--hostfile", nowhere, "true"], f"--hostfile {nowhere} cannot be")):
            with self.subTest(options=options):
                done = subprocess.run([support.LAUNCHER, "--restarts", "2", *options], timeout=90,
                                      capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(f"mpirun.sh: {message}", done.stderr)


if __name__ == "__main__":
    unittest.main()
