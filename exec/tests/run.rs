//! `landfall-exec run`: what the program gets, what stays as it was, and that nothing starts when a value is missing.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Stands in files as a value: no message may hold it.
const VALUE: &str = "swordfish";

fn landfall_exec() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-exec"));
    command.arg("run");
    command
}

/// A directory of this test alone, empty.
fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn secret(test: &str, content: &[u8]) -> PathBuf {
    let path = directory(test).join("secret");
    std::fs::write(&path, content).unwrap();
    path
}

fn assignment(name: &str, file: &Path) -> String {
    format!("{name}={}", file.display())
}

/// By a child, so that no test holds a file open for writing while another starts it.
fn write_script(path: &Path, mode: &str, content: &str) {
    let written = Command::new("sh")
        .args(["-c", r#"printf '%s' "$1" > "$2" && chmod "$3" "$2""#, "sh", content])
        .arg(path)
        .arg(mode)
        .status()
        .unwrap();
    assert!(written.success());
}

fn error_line(output: &Output) -> &str {
    let text = std::str::from_utf8(&output.stderr).unwrap();
    assert!(text.starts_with("landfall-exec: ") && text.ends_with('\n') && text.lines().count() == 1, "{text}");
    assert!(text.contains("; next: ") && !text.contains(VALUE), "{text}");
    text
}

#[test]
fn a_value_arrives_byte_for_byte() {
    let long = VALUE.repeat(25_000 / VALUE.len() + 1);
    let largest = "x".repeat(64 * 1024);
    let key = "-----BEGIN KEY-----\nc3dvcmRmaXNo\n-----END KEY-----\n\n";
    let values = ["", "plain", key, "gr\u{fc}n \u{1f511} $HOME `id` \"'\\", "\n", &long, &largest];
    let values = values.iter().map(|text| text.as_bytes()).chain([&b"\xff\xfe=\x01\r\n"[..]]);
    for value in values {
        let file = secret("verbatim", value);
        let output = landfall_exec()
            .args(["--env", &assignment("VALUE", &file), "--", "sh", "-c", r#"printf '%s' "$VALUE""#])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success() && output.stdout == value, "{}", value[..value.len().min(40)].escape_ascii());
    }
}

#[test]
fn the_rest_of_the_environment_stays() {
    let file = secret("environment", b"new");
    let output = landfall_exec()
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("VALUE", "old")
        .env("OTHER", "kept")
        .args(["--env", &assignment("VALUE", &file), "--env", &assignment("SECOND", &file), "--", "env"])
        .output()
        .unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["OTHER=kept", "PATH=/usr/bin:/bin", "SECOND=new", "VALUE=new"]);
}

#[test]
fn no_value_no_start() {
    let there = secret("refused", VALUE.as_bytes());
    let directory = there.parent().unwrap();
    let marker = directory.join("started");
    let nul = directory.join("nul");
    std::fs::write(&nul, format!("{VALUE}\0{VALUE}")).unwrap();
    let large = directory.join("large");
    std::fs::write(&large, VALUE.repeat(64 * 1024 / VALUE.len() + 1)).unwrap();
    let pipe = directory.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let missing = directory.join("missing");
    let below_a_file = there.join("below");
    let files = [missing.as_path(), &nul, &large, &pipe, &below_a_file, directory];
    for file in files {
        let output = landfall_exec()
            .args(["--env", &assignment("GOOD", &there), "--env", &assignment("API_KEY", file), "--", "touch"])
            .arg(&marker)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", file.display());
        let line = error_line(&output);
        assert!(line.contains(&format!("cannot set `API_KEY` from `{}`", file.display())), "{line}");
        assert!(!marker.exists());
    }
}

#[test]
fn words_that_are_no_configuration() {
    let inline = format!("API_KEY={VALUE}");
    let refused: [&[&str]; 5] =
        [&[], &["--"], &["--env", &inline, "--", "env"], &["--env", "=/a", "--", "env"], &[VALUE, "--", "env"]];
    for words in refused {
        let output = landfall_exec().args(words).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(78), &b""[..]), "{words:?}");
        error_line(&output);
    }
}

#[test]
fn the_process_stays_and_signals_reach_it() {
    let file = secret("signal", b"x");
    // The loop ends also where the signal was lost.
    let script = r#"trap "exit 7" TERM; echo $$; i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; exit 9"#;
    let mut child = landfall_exec()
        .args(["--env", &assignment("VALUE", &file), "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), child.id().to_string());
    assert!(Command::new("sh").args(["-c", "kill -TERM $0", line.trim()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn exit_code_directory_and_name_are_kept() {
    let here = directory("kept").canonicalize().unwrap();
    let output = landfall_exec().current_dir(&here).args(["--", "sh", "-c", "pwd; exit 42"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.trim_ascii()), (Some(42), here.as_os_str().as_bytes()));
    // The first argument is the word as it was given, not the path where it was found.
    let output = landfall_exec().args(["--", "sh", "-c", "tr '\\0' '\\n' < /proc/$$/cmdline | head -n 1"]).output();
    assert_eq!(output.unwrap().stdout, b"sh\n");
}

#[test]
fn the_program_is_looked_up_in_path() {
    let directory = directory("path");
    let (first, second) = (directory.join("first"), directory.join("second"));
    std::fs::create_dir_all(&first).unwrap();
    std::fs::create_dir_all(&second).unwrap();
    write_script(&first.join("program"), "644", "#!/bin/sh\necho first\n");
    write_script(&second.join("program"), "755", "#!/bin/sh\necho second\n");
    write_script(&second.join("lost"), "755", "#!/no/such/interpreter\n");
    write_script(&second.join("foreign"), "755", "neither ELF nor script");
    let path = format!("{}:{}:/no/such", first.display(), second.display());
    let run = |path: &str, program: &str| {
        landfall_exec().env("PATH", path).current_dir(&directory).args(["--", program]).output().unwrap()
    };

    assert_eq!(run(&path, "program").stdout, b"second\n");
    assert_eq!(run("/no/such", "second/program").stdout, b"second\n");
    let ends = [
        ("program", first.to_str().unwrap(), 126, "mode"),
        ("first/program", path.as_str(), 126, "mode"),
        ("lost", &path, 127, "interpreter"),
        ("absent", &path, 127, "`absent` is not found"),
        ("./absent", &path, 127, "`./absent` is not found"),
        ("", &path, 127, "not found"),
    ];
    // glibc's execvp hands what is no program to a shell; what ships is linked with musl, which does not.
    let foreign = ("foreign", path.as_str(), 126, "built for this machine");
    for (program, path, code, why) in ends.into_iter().chain(cfg!(target_env = "musl").then_some(foreign)) {
        let output = run(path, program);
        assert_eq!(output.status.code(), Some(code), "{program}");
        assert!(error_line(&output).contains(why), "{program}: {}", error_line(&output));
    }
}

#[test]
fn without_path_dockers_own_is_searched_and_none_is_set() {
    let output = landfall_exec().env_clear().args(["--", "env"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_value_is_not_told_when_the_program_cannot_start() {
    let file = secret("untold", VALUE.as_bytes());
    let output =
        landfall_exec().args(["--env", &assignment("API_KEY", &file), "--", "/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    error_line(&output);
}

#[test]
fn arguments_that_are_no_text_go_through() {
    let odd = OsStr::from_bytes(b"\xff\xfe");
    let output = landfall_exec().args(["--", "printf", "%s"]).arg(odd).output().unwrap();
    assert_eq!(output.stdout, odd.as_bytes());
}
