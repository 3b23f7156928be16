#!/usr/bin/env python3
"""When a rank is lost or hangs, the others report which one, in which operation of which step, and
end soon; the launcher restarts the job if that can help."""
import os
import pathlib
import socket
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

    def make_agent(self, reached=""):
        """A program that reaches a host as long as the pattern `reached` of the shell matches the
        number of its calls and the host."""
        agent = pathlib.Path(self.folder.name, "agent")
        calls = pathlib.Path(self.folder.name, "calls")
        calls.unlink(missing_ok=True)
        agent.write_text(f"#!/bin/sh\necho $1 >> {calls}\n"
                         f'case "$(grep -c . {calls}) $1" in {reached or "none"}) exit 0 ;; esac\n'
                         "exit 255\n")
        agent.chmod(0o755)
        return {"OMPI_MCA_plm_rsh_agent": str(agent)}

    def places(self):
        hosts = pathlib.Path(self.folder.name, "hosts")
        hosts.write_text("# two\nlocalhost slots=2\n192.0.2.1 slots=2\n")
        return ["--host", "localhost:2,192.0.2.1:2"], ["--hostfile", str(hosts)]

    def test_a_host_that_was_lost_is_left_out(self):
        for place in self.places():
            with self.subTest(place=place):
                self.count.unlink(missing_ok=True)
                done, starts = self.launch("exit 0", "--restarts", "1", "-np", "4", *place,
                                           environment=self.make_agent('"1 192.0.2.1"'))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("host 192.0.2.1 cannot be reached", done.stderr)
                self.assertEqual(starts, ["2 1"])

    def test_a_restart_needs_the_smallest_number_of_ranks(self):
        for place in self.places():
            with self.subTest(place=place):
                done, starts = self.launch("exit 0", "--restarts", "1", "--min-ranks", "3", "-np",
                                           "4", *place,
                                           environment=self.make_agent('"1 192.0.2.1"'))
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("have 2 ranks of at least 3 (--min-ranks); exiting", done.stderr)
                self.assertEqual(starts, [])

    def test_a_host_that_was_never_reached_is_bad_input(self):
        for place in self.places():
            for restarts in ([], ["--restarts", "1"]):
                with self.subTest(place=place, restarts=restarts):
                    done, starts = self.launch("exit 0", *restarts, "-np", "4", *place,
                                               environment=self.make_agent())
                    self.assertEqual(done.returncode, 2, done.stderr)
                    self.assertRegex(done.stderr, r"^mpirun.sh: cannot reach 192.0.2.1; .*\n$")
                    self.assertEqual(starts, [])

    def test_a_hostfile_without_hosts_or_with_a_bad_line_is_bad_input(self):
        hosts = pathlib.Path(self.folder.name, "bad_hosts")
        for text, message in (
                (b"", "names no host"), (b"\n  \n# a comment\r\n", "names no host"),
                (b"\xef\xbb\xbf\r\n", "names no host"), (b"\0" * 5000, "names no host"),
                (b"localhost\nlocalhost slots=x\n", "line 2 has a bad field: 'slots=x'"),
                (b"localhost slots=" + b"9" * 20 + b"\n", "line 1 has a bad field: 'slots=9"),
                (b"localhost slots=1\nlocalhost slots=1\n", "line 2 names a host again: 'local"),
                (b"h" * 1000 + b"\n", "line 1 is not a host: 'hhhh"),
                (b"localhost slots=0\n", "line 1 has a bad field: 'slots=0'"),
                (b"localhost slots=2 ssd\n", "line 1 has a bad field: 'ssd'"),
                (b"localhost:2\n", "line 1 is not a host: 'localhost:2'; write 'NAME slots=N'"),
                (b"slots=2\n", "line 1 is not a host"), (b"^localhost\n", "line 1 is not a host"),
                (b"\x01\xff" + b"q" * 100000, "line 1 is not a host: '??" + "q" * 40),
                (b"a b\n" * 400000, "is larger than 1 MiB")):
            for restarts in ([], ["--restarts", "1"]):
                with self.subTest(text=text[:40], restarts=restarts):
                    hosts.write_bytes(text)
                    done, starts = self.launch("exit 0", *restarts, "-np", "2", "--hostfile",
                                               str(hosts))
                    self.assertEqual(done.returncode, 2, done.stderr)
                    self.assertIn(message, done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                    self.assertLess(len(done.stderr), 300)
                    self.assertEqual(starts, [])

    def test_every_way_to_name_a_hostfile_is_checked(self):
        hosts = pathlib.Path(self.folder.name, "comment")
        hosts.write_text("# no host\n")
        for options, variable in ((["--default-hostfile", str(hosts)], ""),
                                  (["--mca", "orte_default_hostfile", str(hosts)], ""),
                                  ([], str(hosts))):
            with self.subTest(options=options):
                environment = {"OMPI_MCA_orte_default_hostfile": variable} if variable else {}
                done, starts = self.launch("exit 0", "-np", "2", *options, environment=environment)
                self.assertEqual((done.returncode, starts), (2, []), done.stderr)
                self.assertIn(f"--hostfile {hosts} names no host", done.stderr)

    def test_a_hostfile_of_windows_or_from_a_pipe_is_read(self):
        hosts = pathlib.Path(self.folder.name, "windows")
        hosts.write_bytes(b"\xef\xbb\xbf# this host\r\nlocalhost slots = 2 max_slots=4\r\n")
        done, starts = self.launch("exit 0", "--hostfile", str(hosts))
        self.assertEqual((done.returncode, done.stderr, starts), (0, "", ["2 0"]))
        hosts.write_text("localhost\nlocalhost\n")  # as in a nodefile of PBS
        done, starts = self.launch("exit 0", f"--hostfile={hosts}")
        self.assertEqual((done.returncode, done.stderr, starts[1:]), (0, "", ["2 0"]))
        self.count.unlink()
        pipe = pathlib.Path(self.folder.name, "pipe")
        os.mkfifo(pipe)
        writer = subprocess.Popen(["sh", "-c", f"echo localhost slots=2 > {pipe}"])
        done, starts = self.launch("exit 0", "--hostfile", str(pipe))
        writer.wait()
        self.assertEqual((done.returncode, done.stderr, starts), (0, "", ["2 0"]))

    def test_names_and_addresses_of_this_host_need_no_agent(self):
        addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True)
        for host in ["127.0.0.1", socket.gethostname(), *addresses.stdout.split()[:1]]:
            with self.subTest(host=host):
                self.count.unlink(missing_ok=True)
                done, starts = self.launch("exit 0", "--host", f"{host}:2",
                                           environment=self.make_agent())
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(starts, ["2 0"])

    def test_a_list_of_hosts_with_a_bad_entry_is_bad_input(self):
        for hosts in ("", ",", "localhost,,localhost", "localhost:x", "local host"):
            with self.subTest(hosts=hosts):
                done, starts = self.launch("exit 0", "-np", "1", "--host", hosts)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("--host has an entry that is not a host", done.stderr)
                self.assertEqual(starts, [])

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
                (["-np", "99999999999", "true"], "-np is '99999999999'; give a whole number"),
                (["-np", "2", f"--hostfile={nowhere}", "true"], f"--hostfile {nowhere} cannot be"),
                (["-np", "1", "--host=", "true"], "--host has an entry that is not a host"),
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
