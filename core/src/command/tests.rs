use super::*;

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script).deadline(Duration::from_secs(20))
}

#[tokio::test]
async fn what_a_child_says_and_how_it_ends() {
    struct Case {
        script: &'static str,
        code: i32,
        stdout: &'static str,
        stderr: &'static str,
    }
    for case in [
        Case { script: "echo out; echo err >&2; exit 3", code: 3, stdout: "out\n", stderr: "err\n" },
        Case { script: "/usr/bin/env | grep -v -e ^PWD= -e ^SHLVL= -e ^_=", code: 0, stdout: "A=b\n", stderr: "" },
        Case { script: "cat", code: 0, stdout: "given", stderr: "" },
        Case { script: "exec cat <&- ; exit 0", code: 1, stdout: "", stderr: "" },
        Case { script: "kill -9 $$", code: 137, stdout: "", stderr: "" },
    ] {
        let output = shell(case.script).env("A", "b").stdin("given").run().await.unwrap();
        assert_eq!(output.code, case.code, "{}", case.script);
        assert_eq!(String::from_utf8_lossy(&output.stdout), case.stdout, "{}", case.script);
        assert!(output.stderr.contains(case.stderr), "{}: {}", case.script, output.stderr);
    }
}

#[tokio::test]
async fn stderr_keeps_its_end_and_stdout_is_bounded() {
    let output = shell("head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2").run().await.unwrap();
    assert_eq!(output.stderr.len(), STDERR_TAIL);
    assert_eq!(output.last_words().len(), "its last words: ".len() + 400 + "…".len());
    let error = shell("exec cat /dev/zero").stdout_limit(1000).run().await.unwrap_err();
    assert!(matches!(error, CommandError::TooMuchOutput { limit: 1000, .. }), "{error}");
}

#[tokio::test]
async fn a_deadline_kills_the_whole_group() {
    let script = "sleep 1000 & echo $! >&2; wait";
    let error = shell(script).deadline(Duration::from_millis(300)).run().await.unwrap_err();
    let CommandError::Deadline { stderr, .. } = error else { panic!("{error}") };
    let grandchild = Pid::from_raw(stderr.trim().parse().unwrap());
    for _ in 0..1000 {
        // An orphan that nobody reaps still has a number: its state says whether it is dead.
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{grandchild} still lives");
}

#[tokio::test]
async fn what_was_started_ahead_waits_for_what_it_reads() {
    let (give, given) = oneshot::channel();
    let patience = Duration::from_secs(20);
    let waits = shell("cat; echo end >&2; exit 3").run_ahead(given, patience);
    let later = async {
        tokio::task::yield_now().await;
        give.send(b"late".to_vec()).unwrap();
    };
    let (output, ()) = tokio::join!(waits, later);
    let output = output.unwrap();
    assert_eq!((output.code, output.stdout.as_slice(), output.stderr.trim()), (3, &b"late"[..], "end"));
}

#[tokio::test]
async fn what_is_given_nothing_is_killed() {
    let patience = Duration::from_secs(20);
    let nothing = |error: CommandError| matches!(error, CommandError::NothingGiven { .. });
    // The sender goes; it comes too late; the child is gone before.
    let (give, given) = oneshot::channel::<Vec<u8>>();
    drop(give);
    assert!(nothing(shell("exec sleep 1000").run_ahead(given, patience).await.unwrap_err()));
    let (_give, given) = oneshot::channel();
    assert!(nothing(shell("exec sleep 1000").run_ahead(given, Duration::ZERO).await.unwrap_err()));
    let (give, given) = oneshot::channel();
    assert!(nothing(shell("exit 0").run_ahead(given, patience).await.unwrap_err()));
    assert_eq!(give.send(b"too late".to_vec()).unwrap_err(), b"too late");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = Command::new("/nowhere/compose").run().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start `/nowhere/compose`: is it installed and executable?");
}
